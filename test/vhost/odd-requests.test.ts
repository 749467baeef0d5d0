/**
 * Requests that today's back-ends die of: the cases of shared recordings of Rust virtiofsd 1.13.2 and C virtiofsd 7.2,
 * and more of their kind. The answers here are the specification's. After each of them the session lives, the memory
 * table is what it was, and a ring is served.
 */
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { FrontendRequest, type FrontendRequestName } from '../../protocol/vhost-user.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { GiB, MiB } from '../../src/units.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { socketPair } from '../../src/host/unix-socket.ts';
import { SERVED_REQUESTS } from '../../src/vhost/backend-dispatch.ts';
import { FEATURES, header, openFds, PROTOCOL_FEATURES, RAM, RAM_SIZE, Rig, UVA } from './rig.ts';

let before = 0;
beforeEach(() => {
  new Rig()[Symbol.dispose]();
  before = openFds();
});
afterEach(() => expect(openFds()).toBe(before));

const EMPTY = new Uint8Array(0);
/** Second region of the tests, above RAM. */
const MORE = { guestPhysAddr: 0x1_0000_0000n, memorySize: BigInt(MiB) };

/** A rig whose ring 1 is running, that is checked to be so again after `check`. */
function survives(check: (rig: Rig) => void): () => void {
  return () => {
    using rig = new Rig().start();
    check(rig);
    expect(rig.u64('GET_FEATURES', undefined)).toBe(0x1_7400_0000n);
    if (rig.memory.regions.length === 0) rig.addRegion();
    expect(rig.ping(1)).toBe(true);
  };
}
const regions = (rig: Rig): number => rig.memory.regions.length;

describe('ADD_MEM_REG', () => {
  test.each<[string, Parameters<Rig['region']>[0]]>([
    ['size 0', { ...MORE, memorySize: 0n }],
    ['overlap in guest physical space', { guestPhysAddr: BigInt(RAM) + 0x1000n, memorySize: 0x1000n }],
    ['the same region twice', {}],
    [
      'guest physical address wraps',
      { guestPhysAddr: 2n ** 64n - 0x1000n, memorySize: 0x2000n, userspaceAddr: 0n },
    ],
    ['user address wraps', { ...MORE, userspaceAddr: 2n ** 64n - 0x1000n }],
    ['larger than the fd', { ...MORE, memorySize: BigInt(RAM_SIZE) + 0x1000n }],
    ['offset beyond the fd', { ...MORE, mmapOffset: BigInt(RAM_SIZE) }],
    ['misaligned offset', { ...MORE, mmapOffset: 0x800n }],
  ])('%s is refused', (_, change) =>
    survives((rig) => {
      expect(rig.addRegion(change)).toBe(1n);
      expect(regions(rig)).toBe(1);
    })(),
  );

  test(
    'without fd, and with two, is refused',
    survives((rig) => {
      const value = { padding: 0n, region: rig.region(MORE) };
      expect(rig.u64('ADD_MEM_REG', value)).toBe(1n);
      expect(rig.u64('ADD_MEM_REG', value, { fds: [rig.ram.fd.fd, rig.ram.fd.fd] })).toBe(1n);
      expect(regions(rig)).toBe(1);
    }),
  );

  test(
    'one slot more than was told is refused, and removing one makes room',
    survives((rig) => {
      const nth = (n: number): object => ({ guestPhysAddr: BigInt(n) << 32n, memorySize: 0x1000n });
      expect(rig.u64('GET_MAX_MEM_SLOTS', undefined)).toBe(8n);
      for (let n = 1; n <= 7; n += 1) expect(rig.addRegion(nth(n))).toBe(0n);
      expect(rig.addRegion(nth(8))).toBe(1n);
      expect(regions(rig)).toBe(8);
      expect(rig.removeRegion(nth(3))).toBe(0n);
      expect(rig.addRegion(nth(8))).toBe(0n);
    }),
  );

  test(
    'overlap in user addresses only is allowed',
    survives((rig) => {
      expect(rig.addRegion({ ...MORE, userspaceAddr: rig.region().userspaceAddr })).toBe(0n);
    }),
  );

  test(
    'a region of 5 GiB at an offset of 3 GiB works',
    survives((rig) => {
      using fd = new OwnedFd(createMemfd('large', 8 * GiB));
      const large = { guestPhysAddr: 1n << 40n, memorySize: BigInt(5 * GiB), mmapOffset: BigInt(3 * GiB) };
      expect(rig.addRegion(large, fd.fd)).toBe(0n);
      rig.offer(0, 1, 2 ** 40 + 5 * GiB - 8192);
      rig.pump();
      expect(rig.collect(0)).toBe(1);
      expect(rig.drivers[0]!.lastWritten).toBe(16);
    }),
  );
});

describe('REM_MEM_REG', () => {
  test.each<[string, Parameters<Rig['region']>[0]]>([
    ['other guest physical address', { guestPhysAddr: BigInt(RAM) + 0x10_0000n }],
    ['other size', { memorySize: 0x1000n }],
    ['other user address', { userspaceAddr: UVA + BigInt(RAM) + 0x10_0000n }],
  ])('%s is refused', (_, change) =>
    survives((rig) => {
      expect(rig.removeRegion(change)).toBe(1n);
      expect(regions(rig)).toBe(1);
    })(),
  );

  test(
    'of what was removed, and of what never was, is refused',
    survives((rig) => {
      expect(rig.removeRegion(MORE)).toBe(1n);
      expect(rig.addRegion(MORE)).toBe(0n);
      expect(rig.removeRegion(MORE)).toBe(0n);
      expect(rig.removeRegion(MORE)).toBe(1n);
    }),
  );

  test(
    'any offset and any padding will do',
    survives((rig) => {
      expect(rig.addRegion({ ...MORE, mmapOffset: 0x1000n })).toBe(0n);
      const region = rig.region({ ...MORE, mmapOffset: 0xfff0_0001n });
      expect(rig.u64('REM_MEM_REG', { padding: 2n ** 64n - 1n, region })).toBe(0n);
    }),
  );

  test(
    'with a stray fd is done, the fd closed; with two it is refused',
    survives((rig) => {
      expect(rig.addRegion(MORE)).toBe(0n);
      const open = openFds();
      const value = { padding: 0n, region: rig.region(MORE) };
      expect(rig.u64('REM_MEM_REG', value, { fds: [rig.ram.fd.fd, rig.ram.fd.fd] })).toBe(1n);
      expect(rig.u64('REM_MEM_REG', value, { fds: [rig.ram.fd.fd] })).toBe(0n);
      expect(openFds()).toBe(open);
    }),
  );
});

describe('SET_MEM_TABLE', () => {
  const table = (rig: Rig, count: number): ReturnType<Rig['region']>[] =>
    Array.from({ length: count }, (_, i) =>
      i === 0 ? rig.region() : rig.region({ guestPhysAddr: BigInt(i) << 32n, memorySize: 0x1000n }),
    );

  test(
    'of no region clears the table',
    survives((rig) => {
      expect(rig.setTable([])).toBe(0n);
      expect(regions(rig)).toBe(0);
    }),
  );

  test(
    'of 8 regions works; one of more than the slots is refused',
    survives((rig) => {
      expect(rig.setTable(table(rig, 8))).toBe(0n);
      expect(rig.setTable(table(rig, 9))).toBe(1n);
      expect(rig.setTable(table(rig, 33))).toBe(1n);
      expect(regions(rig)).toBe(8);
    }),
  );

  test('of 40 regions works if there are slots', () => {
    using rig = new Rig({ maxSlots: 509 }).start();
    expect(rig.setTable(table(rig, 40))).toBe(0n);
    expect(rig.ping(0)).toBe(true);
  });

  test(
    'with fewer or more fds than regions is refused',
    survives((rig) => {
      expect(
        rig.setTable(
          table(rig, 4),
          [0, 0, 0].map(() => rig.ram.fd.fd),
        ),
      ).toBe(1n);
      expect(
        rig.setTable(
          table(rig, 1),
          [0, 0].map(() => rig.ram.fd.fd),
        ),
      ).toBe(1n);
      expect(regions(rig)).toBe(1);
    }),
  );

  test(
    'with one bad region changes nothing',
    survives((rig) => {
      expect(rig.setTable([...table(rig, 2), rig.region({ ...MORE, memorySize: 0n })])).toBe(1n);
      expect(regions(rig)).toBe(1);
    }),
  );

  test(
    'with something in its padding is done',
    survives((rig) => {
      const sent = { padding: 0xffff_ffff, regions: table(rig, 1) };
      expect(rig.u64('SET_MEM_TABLE', sent, { fds: [rig.ram.fd.fd] })).toBe(0n);
    }),
  );

  test(
    'and ADD and REM work on the same table',
    survives((rig) => {
      expect(rig.addRegion(MORE)).toBe(0n);
      expect(rig.setTable(table(rig, 1))).toBe(0n);
      expect(rig.removeRegion(MORE)).toBe(1n);
      expect(rig.addRegion(MORE)).toBe(0n);
      expect(rig.removeRegion()).toBe(0n);
      expect(regions(rig)).toBe(1);
      expect(rig.addRegion()).toBe(0n);
    }),
  );
});

describe('rings', () => {
  test.each([0, 3, 1000, 2048, 65536, 0xffff_ffff])('SET_VRING_NUM %i is refused', (num) =>
    survives((rig) => expect(rig.u64('SET_VRING_NUM', { index: 0, num })).toBe(1n))(),
  );

  test(
    'SET_VRING_BASE beyond 16 bits is refused',
    survives((rig) => {
      expect(rig.u64('SET_VRING_BASE', { index: 0, num: 0x1_0000 })).toBe(1n);
    }),
  );

  test.each<FrontendRequestName>(['SET_VRING_NUM', 'SET_VRING_BASE', 'SET_VRING_ENABLE'])(
    '%s of a ring that is not there is refused',
    (name) =>
      survives((rig) => {
        for (const index of [2, 77, 0xffff_ffff]) expect(rig.u64(name, { index, num: 1 })).toBe(1n);
      })(),
  );

  test(
    'GET_VRING_BASE of a ring that is not there is answered with nothing',
    survives((rig) => {
      expect(rig.request('GET_VRING_BASE', { index: 2, num: 0 })).toEqual(EMPTY);
    }),
  );

  test.each<FrontendRequestName>(['SET_VRING_KICK', 'SET_VRING_CALL', 'SET_VRING_ERR'])(
    '%s: ring, fd and flag must fit',
    (name) =>
      survives((rig) => {
        using fd = new OwnedFd(createEventfd());
        const fds = [fd.fd];
        expect(rig.u64(name, 2n, { fds })).toBe(1n); // no such ring
        expect(rig.u64(name, 0n)).toBe(1n); // no fd, and the flag does not say so
        expect(rig.u64(name, 0x100n, { fds })).toBe(1n); // an fd, though the flag denies it
        expect(rig.u64(name, 0n, { fds: [fd.fd, fd.fd] })).toBe(1n);
        expect(rig.u64(name, 0x200n, { fds })).toBe(1n); // a bit without meaning
        expect(rig.u64(name, 0n, { fds })).toBe(0n);
      })(),
  );

  test.each<[string, object]>([
    ['no region holds the descriptors', { descUserAddr: UVA }],
    ['the used ring crosses the end of the region', { usedUserAddr: UVA + BigInt(RAM + RAM_SIZE - 8) }],
    ['guest physical instead of user addresses', { availUserAddr: BigInt(RAM) }],
    ['misaligned descriptors', { descUserAddr: UVA + BigInt(RAM + 8) }],
    ['misaligned avail ring', { availUserAddr: UVA + BigInt(RAM + 0x1001) }],
    ['misaligned used ring', { usedUserAddr: UVA + BigInt(RAM + 0x1002) }],
    ['the end of the address space', { descUserAddr: 2n ** 64n - 16n }],
    ['unknown flags', { flags: 2 }],
  ])('SET_VRING_ADDR, %s, is refused and the ring goes on', (_, change) =>
    survives((rig) => {
      expect(rig.u64('SET_VRING_ADDR', rig.addr(1, change))).toBe(1n);
      expect(rig.ping(1)).toBe(true);
    })(),
  );

  test('SET_VRING_ADDR before any memory is refused', () => {
    using rig = new Rig();
    rig.negotiate();
    expect(rig.u64('SET_VRING_ADDR', rig.addr(0))).toBe(1n);
  });

  test(
    'SET_VRING_ENABLE 2 is refused',
    survives((rig) => expect(rig.enable(0, 2)).toBe(1n)),
  );

  test('SET_VRING_ENABLE needs PROTOCOL_FEATURES', () => {
    using rig = new Rig();
    rig.request('SET_PROTOCOL_FEATURES', PROTOCOL_FEATURES, { needReply: false });
    expect(rig.enable(0)).toBe(1n);
    expect(rig.u64('SET_FEATURES', FEATURES & ~(1n << 30n))).toBe(0n);
    expect(rig.enable(0)).toBe(1n);
    expect(rig.u64('SET_FEATURES', FEATURES)).toBe(0n);
    expect(rig.enable(0)).toBe(0n);
  });
});

describe('negotiation', () => {
  test(
    'features that were not offered are refused',
    survives((rig) => {
      for (const bit of [0n, 5n, 34n, 63n]) expect(rig.u64('SET_FEATURES', FEATURES | (1n << bit))).toBe(1n);
    }),
  );

  test(
    'protocol features that were not offered are refused',
    survives((rig) => {
      expect(rig.u64('SET_PROTOCOL_FEATURES', PROTOCOL_FEATURES | (1n << 40n))).toBe(1n);
      expect(rig.u64('SET_PROTOCOL_FEATURES', PROTOCOL_FEATURES)).toBe(0n);
    }),
  );

  test('a front-end whose first protocol features are refused hears it', () => {
    using rig = new Rig();
    expect(rig.u64('SET_PROTOCOL_FEATURES', PROTOCOL_FEATURES | (1n << 40n))).toBe(1n);
    expect(rig.u64('SET_OWNER', undefined)).toBe(0n);
  });

  test(
    'SET_OWNER twice is done twice',
    survives((rig) => {
      expect(rig.u64('SET_OWNER', undefined)).toBe(0n);
    }),
  );

  test(
    'SET_BACKEND_REQ_FD twice replaces; one that is no socket is refused',
    survives((rig) => {
      for (const pair of [socketPair(), socketPair()]) {
        expect(rig.u64('SET_BACKEND_REQ_FD', undefined, { fds: [pair[0].fd] })).toBe(0n);
        for (const fd of pair) fd.close();
      }
      expect(rig.u64('SET_BACKEND_REQ_FD', undefined, { fds: [rig.ram.fd.fd] })).toBe(1n);
      expect(rig.u64('SET_BACKEND_REQ_FD', undefined)).toBe(1n);
    }),
  );

  test(
    'a status of more than a byte is refused',
    survives((rig) => {
      expect(rig.u64('SET_STATUS', 0x100n)).toBe(1n);
    }),
  );

  test.each<FrontendRequestName>(['ADD_MEM_REG', 'REM_MEM_REG', 'SET_STATUS', 'RESET_DEVICE', 'SET_CONFIG'])(
    '%s without its protocol feature is refused',
    (name) => {
      using rig = new Rig();
      rig.request('SET_PROTOCOL_FEATURES', 1n << 3n, { needReply: false });
      const row = frontendRow(FrontendRequest[name])!;
      const fds = Array.from({ length: row.fds.min }, () => rig.ram.fd.fd);
      expect(rig.raw(FrontendRequest[name], new Uint8Array(row.payload.minSize), { fds })).toHaveLength(8);
      expect(rig.memory.regions).toEqual([]);
    },
  );

  test('GET_CONFIG without CONFIG is answered with nothing', () => {
    using rig = new Rig();
    expect(rig.request('GET_CONFIG', { offset: 0, flags: 0, contents: new Uint8Array(4) })).toEqual(EMPTY);
  });
});

/** What the front-end waits for must come, whatever we think of the request. */
describe('requests that are not served', () => {
  const served = new Set(SERVED_REQUESTS);
  const refused = (Object.keys(FrontendRequest) as FrontendRequestName[]).filter((name) => !served.has(name));

  test('are these', () => {
    expect(refused).toEqual([
      'SEND_RARP',
      'NET_SET_MTU',
      'IOTLB_MSG',
      'SET_VRING_ENDIAN',
      'CREATE_CRYPTO_SESSION',
      'CLOSE_CRYPTO_SESSION',
      'POSTCOPY_ADVISE',
      'POSTCOPY_LISTEN',
      'POSTCOPY_END',
      'GET_INFLIGHT_FD',
      'SET_INFLIGHT_FD',
      'GPU_SET_SOCKET',
      'VRING_KICK',
      'GET_SHARED_OBJECT',
      'SET_DEVICE_STATE_FD',
      'CHECK_DEVICE_STATE',
      'GET_SHMEM_CONFIG',
    ]);
  });

  test.each(refused)('%s is refused, and answered exactly if the front-end waits', (name) =>
    survives((rig) => {
      const row = frontendRow(FrontendRequest[name])!;
      const payload = new Uint8Array(row.payload.minSize);
      const fds = Array.from({ length: row.fds.min }, () => rig.ram.fd.fd);
      const quiet = rig.raw(FrontendRequest[name], payload, { fds, needReply: false });
      expect(quiet === 'none').toBe(row.reply === 'ack');
      const answer = rig.raw(FrontendRequest[name], payload, { fds }) as Uint8Array;
      const isError = answer.length === 0 || (answer.length === 8 && answer[0] !== 0);
      expect(isError).toBe(true);
    })(),
  );

  test(
    'SET_DEVICE_STATE_FD: the refusal says that no fd comes with it',
    survives((rig) => {
      const answer = rig.u64('SET_DEVICE_STATE_FD', { direction: 0, phase: 0 }, { fds: [rig.ram.fd.fd] });
      expect(answer).toBe(0x101n);
    }),
  );

  test.each([0, 45, 99, 1000, 0xffff_ffff])('request %i is refused', (request) =>
    survives((rig) => {
      expect(rig.raw(request, new Uint8Array(24), { needReply: false })).toBe('none');
      expect(rig.raw(request, new Uint8Array(24), { fds: [rig.ram.fd.fd] })).toEqual(
        Uint8Array.of(1, 0, 0, 0, 0, 0, 0, 0),
      );
    })(),
  );
});

describe('framing', () => {
  test.each([0, 4, 7, 9, 40, 8192, 0x1_0000])('SET_VRING_NUM with %i octets is refused', (size) =>
    survives((rig) => {
      expect(rig.raw(FrontendRequest.SET_VRING_NUM, new Uint8Array(size))).toHaveLength(8);
    })(),
  );

  test(
    'GET_FEATURES with a payload is answered with nothing',
    survives((rig) => {
      expect(rig.raw(FrontendRequest.GET_FEATURES, new Uint8Array(8))).toEqual(EMPTY);
    }),
  );

  test.each([0, 2, 3])('version %i is refused', (version) =>
    survives((rig) => {
      expect(rig.raw(FrontendRequest.SET_OWNER, EMPTY, { version })).toHaveLength(8);
    })(),
  );

  test(
    'a reply nobody asked for is ignored',
    survives((rig) => {
      rig.socket.send(header(FrontendRequest.SET_OWNER, 0xd, 0), []);
      rig.pump();
      expect(rig.receive()).toBe('wait');
    }),
  );

  test.each<[string, Buffer]>([
    ['a size nobody has', header(FrontendRequest.SET_OWNER, 1, 0x7fff_ffff)],
    ['a size just above the limit', header(FrontendRequest.SET_MEM_TABLE, 1, 0x1_0001)],
    ['no header at all', Buffer.from('GET / HTTP/1')],
    ['neither request nor version', header(4711, 0, 0)],
  ])('%s ends the session: where the next message starts is not known', (_, octets) => {
    using rig = new Rig().start();
    rig.socket.send(octets, [rig.ram.fd.fd]);
    rig.pump();
    expect(rig.session.closed).toBe(true);
    expect(rig.memory.regions).toEqual([]);
    expect(rig.receive()).toBe('closed');
  });

  test('more descriptors than any message may have end the session', () => {
    using rig = new Rig();
    const octets = header(FrontendRequest.SET_OWNER, 1, 0);
    const fds = Array.from({ length: 200 }, () => rig.ram.fd.fd);
    rig.socket.send(octets.subarray(0, 6), fds);
    rig.socket.send(octets.subarray(6, 7), fds);
    rig.pump();
    expect(rig.session.closed).toBe(true);
  });
});
