import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { gunzipSync } from 'node:zlib';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { VirtioMem } from '../../src/memory-devices/virtio-mem.ts';
import { VirtioMemDriver, type VirtioMemDriverOptions } from '../../src/machine/virtio-mem-driver.ts';
import {
  VirtioMemQueueDevice,
  VirtioMemQueueLink,
  type WaitableQueue,
} from '../../src/machine/virtio-mem-queue.ts';
import type { VirtioMemOptions } from '../../src/memory-devices/virtio-mem-options.ts';
import { VirtioMemReq, VirtioMemRequestType } from '../../protocol/virtio-mem.ts';
import { GiB, MiB } from '../../src/units.ts';
import { backend, codeOf, pc, recordSections, WINDOW } from '../memory-devices/rig.ts';
import { BUFFERS, BUFFERS_SIZE, makeRig } from '../virtio/rig.ts';

type Options = Partial<VirtioMemOptions> &
  Pick<VirtioMemDriverOptions, 'canFree'> & { readonly space?: number };

/** A device, its driver, and the virtqueue in guest memory between them. */
function makeGuest(size: number, { canFree, space = size, ...options }: Options = {}) {
  const machine = pc(space);
  const device = new VirtioMem({ backend: backend(machine, size), dynamicMemslots: true, ...options });
  machine.devices.add(device);
  const served = new VirtioMemQueueDevice(device);
  const { memory, driver: ring, device: virtqueue, chain } = makeRig({ num: 8, indirectEntries: 2 });
  const requests: string[] = [];
  const queue: WaitableQueue = {
    driver: ring,
    submit: () => ring.publish(),
    wait: () => {
      virtqueue.pop(chain);
      virtqueue.pushUsed(chain.head, served.handle(0, chain));
      virtqueue.publish();
      return ring.collect();
    },
  };
  // Of the rig's regions of buffers, `BUFFERS` is the last.
  const bytes = memory.bytes.subarray(memory.bytes.length - BUFFERS_SIZE);
  const link = new VirtioMemQueueLink(queue, { gpa: BUFFERS, bytes }, () => served.readConfig());
  const noting = {
    readConfig: () => link.readConfig(),
    request: (request: Uint8Array, response: Uint8Array) => {
      const { type, addr, nbBlocks } = VirtioMemReq.decode(request);
      const verb = ['plug', 'unplug', 'unplug all'][type]!;
      const at =
        type === VirtioMemRequestType.UNPLUG_ALL ? '' : ` ${(Number(addr) - WINDOW) / MiB}+${nbBlocks}`;
      requests.push(verb + at);
      link.request(request, response);
    },
  };
  const driver = new VirtioMemDriver({ link: noting, ...(canFree === undefined ? {} : { canFree }) });
  device.onConfigChange = () => driver.configChanged();
  const resize = (bytes: number): string => {
    device.setRequestedSize(bytes);
    return driver.run();
  };
  return { machine, device, driver, requests, resize, link: noting, queue, bytes };
}

const captures = fileURLToPath(new URL('../../fixtures/vhost-user', import.meta.url));
const linesOf = (path: string): unknown[] =>
  gunzipSync(readFileSync(`${captures}/${path}`))
    .toString()
    .split('\n')
    .filter((line) => line !== '')
    .map((line): unknown => JSON.parse(line));

describe('the driver asks for the same as Linux 6.12 in', () => {
  test.each<[string, number, Partial<VirtioMemOptions>]>([
    ['captures/vmem-dyn-steps', 4 * GiB, {}],
    ['captures-10.0.13/vmem-dyn-steps', 4 * GiB, {}],
    ['captures/vmem-static-steps', 4 * GiB, { dynamicMemslots: false }],
    ['captures/vmem-dyn-block256', 3 * GiB, { blockSize: 256 * MiB }],
  ])('%s', (name, size, options) => {
    const guest = makeGuest(size, options);
    for (const line of linesOf(`${name}/qmp.jsonl.gz`)) {
      const { qmp } = line as { qmp?: { arguments?: { property?: string; value?: number } } };
      if (qmp?.arguments?.property === 'requested-size')
        expect(guest.resize(qmp.arguments.value!)).toBe('done');
    }
    const events = linesOf(`${name}/events.jsonl.gz`) as {
      ev: string;
      op: string;
      addr: number;
      nb_blocks: number;
    }[];
    const recorded = events
      .filter(({ ev }) => ev === 'vmem_req')
      .map(({ op, addr, nb_blocks: blocks }) => `${op} ${(addr - WINDOW) / MiB}+${blocks}`);
    expect(guest.requests).toEqual(recorded);
    expect(recorded.length).toBeGreaterThan(10);
  });
});

describe('the driver', () => {
  test('waits when the device is busy, and goes on later', () => {
    let isBusy = true;
    const guest = makeGuest(GiB, { isBusy: () => isBusy });
    expect(guest.resize(256 * MiB)).toBe('busy');
    isBusy = false;
    expect(guest.driver.run()).toBe('done');
    expect(guest.device.size).toBe(256 * MiB);
  });

  test('reads the configuration again when it changes on the way', () => {
    const guest = makeGuest(GiB);
    let responses = 0;
    guest.device.onSizeChange = () => {
      responses += 1;
      if (responses === 2) guest.device.setRequestedSize(128 * MiB);
    };
    expect(guest.resize(GiB)).toBe('done');
    expect(guest.device.size).toBe(128 * MiB);
    expect(guest.requests).toEqual(['plug 0+64', 'plug 128+64', 'unplug 128+64']);
  });

  test('passes over memory that the guest cannot free', () => {
    let isPinned = true;
    const guest = makeGuest(GiB, { canFree: (address) => !isPinned || address !== WINDOW + 256 * MiB });
    guest.resize(512 * MiB);
    guest.requests.length = 0;
    expect(guest.resize(0)).toBe('busy');
    expect(guest.device.size).toBe(2 * MiB); // its first block: the rest of that memory block goes block by block
    isPinned = false;
    expect(guest.driver.run()).toBe('done');
    expect(guest.device.size).toBe(0);
  });

  test('unplugs what an earlier driver has left', () => {
    const guest = makeGuest(GiB);
    guest.resize(512 * MiB);
    guest.requests.length = 0;
    const next = new VirtioMemDriver({ link: guest.link });
    expect(next.run()).toBe('done');
    expect(guest.requests).toEqual(['unplug all', 'plug 0+64', 'plug 128+64', 'plug 256+64', 'plug 384+64']);
  });

  test('gives up a device that refuses what it must not refuse', () => {
    const guest = makeGuest(GiB);
    guest.resize(256 * MiB);
    guest.device.systemReset(); // behind the driver's back
    expect(guest.resize(0)).toBe('broken');
    expect(guest.driver.run()).toBe('broken');
  });

  test('leaves memory alone that is not whole memory blocks', () => {
    const guest = makeGuest(256 * MiB, { address: BigInt(WINDOW + 2 * MiB), space: GiB });
    expect(guest.resize(256 * MiB)).toBe('full');
    expect(guest.requests).toEqual(['plug 128+64']);
  });

  test('reaches every requested size, and each memslot comes and goes with its blocks', () => {
    fc.assert(
      fc.property(fc.array(fc.nat(2048), { maxLength: 12 }), (sizes) => {
        const guest = makeGuest(4 * GiB);
        const heard = recordSections(guest.machine);
        for (const blocks of sizes) {
          expect(guest.resize(blocks * 2 * MiB)).toBe('done');
          expect(guest.device.size).toBe(blocks * 2 * MiB);
        }
        expect(heard.filter((line) => line.startsWith('add')).length).toBe(
          heard.filter((line) => line.startsWith('del')).length + guest.device.dynamicMemslots!.mapped,
        );
      }),
      { numRuns: 25 },
    );
  });
});

describe('the device', () => {
  test('takes a request and gives a response in pieces', () => {
    const { device, queue, bytes } = makeGuest(GiB, { requestedSize: GiB });
    const request = VirtioMemReq.encode({
      type: VirtioMemRequestType.PLUG,
      addr: BigInt(WINDOW),
      nbBlocks: 3,
    });
    bytes.set(request.subarray(0, 10), 0);
    bytes.set(request.subarray(10), 256);
    bytes.fill(0xff, 512, 528);
    queue.driver.add([BUFFERS, BUFFERS + 256, BUFFERS + 512, BUFFERS + 520], [10, 14, 1, 12], 4, 2);
    queue.submit();
    queue.wait(0);
    expect(device.size).toBe(6 * MiB);
    expect(queue.driver.lastWritten).toBe(10);
    expect([...bytes.subarray(512, 530)]).toEqual([
      0,
      ...Array<number>(7).fill(0xff),
      ...Array<number>(9).fill(0),
      0,
    ]);
  });

  test('is broken by a request that is cut off', () => {
    const { queue } = makeGuest(GiB);
    queue.driver.add([BUFFERS, BUFFERS + 512], [23, 10], 2, 1);
    queue.submit();
    expect(codeOf(() => queue.wait(0))).toBe('BAD_REQUEST');
  });
});
