/** What probing says of back-ends that offer this or that, and of some that do not answer. */
import { describe, expect, test } from 'vitest';
import { maskOf } from '../../protocol/bits.ts';
import { HeaderFlag, ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { ConfigAccess, U64 } from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { VirtioBlkConfig } from '../../protocol/virtio-blk.ts';
import { ProtocolError } from '../../src/errors.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { Connection, type Message } from '../../src/vhost/connection.ts';
import { reportOf } from '../../src/vhost/probe-report.ts';
import { probe } from '../../src/vhost/probe.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';
import { openFds } from './rig.ts';

const MODERN = maskOf(VHOST_USER_F_PROTOCOL_FEATURES, VirtioFeature.VERSION_1);
const { REPLY_ACK, CONFIGURE_MEM_SLOTS, MQ, CONFIG } = ProtocolFeature;

/** What a request is answered with; undefined is silence. */
type Answers = Readonly<Record<string, Uint8Array | bigint | undefined>>;

/** Probes a peer that answers as the table says, and acknowledges everything else. */
function probePeer(answers: Answers) {
  const [theirs, ours] = socketPair();
  const peer = new Connection(new MessageSocket(theirs));
  const asked: string[] = [];
  const turn = (): void => {
    for (let message = peer.receive(); typeof message === 'object'; message = peer.receive()) {
      for (const fd of message.fds) fd.close();
      asked.push(answer(peer, message, answers));
    }
  };
  const offer = probe(ours, { timeoutMs: 30, wait: turn });
  peer.close();
  return { offer, report: reportOf(offer), asked };
}

function answer(peer: Connection, { request, flags, payload }: Message, answers: Answers): string {
  const { name, reply } = frontendRow(request)!;
  const wanted = reply !== 'ack' || (flags & HeaderFlag.NEED_REPLY) !== 0;
  const value = name in answers ? answers[name] : 0n;
  if (wanted && value !== undefined) {
    const octets = typeof value === 'bigint' ? U64.encode(value) : value;
    // a configuration is given for its own size only
    const isRefused = name === 'GET_CONFIG' && octets.length !== payload.length;
    peer.send(request, HeaderFlag.REPLY | 1, isRefused ? new Uint8Array(0) : octets);
  }
  return name;
}

const protocolNames = (report: ReturnType<typeof reportOf>) =>
  report.protocolFeatures?.map(({ name }) => name);

test('our own back-end: everything is answered, and one region comes and goes', () => {
  const before = openFds();
  {
    using backend = new InProcessBackend(new PaperFileSystem(), { maxMemSlots: 510, requestQueues: 3 });
    const report = reportOf(probe(backend.socket, { wait: backend.turn }));
    expect(report).toMatchObject({
      device: { kind: 'file system' },
      queues: 4,
      memslots: { announced: 510, qemu: 510 },
      acknowledges: { owner: 'acknowledged', addRegion: 'acknowledged', removeRegion: 'acknowledged' },
      remarks: [],
    });
    expect(report.failure).toBeUndefined();
    expect(backend.memory.regions.length).toBe(0);
  }
  expect(openFds()).toBe(before);
});

describe('a feature bit', () => {
  test('21 without 22 is told to be what rust-vmm means by it', () => {
    const offered = maskOf(REPLY_ACK, ProtocolFeature.BACKEND_SEND_FD, ProtocolFeature.GPA_ADDRESSES);
    const { report } = probePeer({ GET_FEATURES: MODERN, GET_PROTOCOL_FEATURES: offered });
    expect(report.remarks.join('\n')).toMatch(/bit 21 .* SHMEM in rust-vmm up to 0.16: rather that/);
  });

  test('that nobody knows has no name, and is remarked', () => {
    const { report } = probePeer({ GET_FEATURES: MODERN, GET_PROTOCOL_FEATURES: maskOf(REPLY_ACK, 40) });
    expect(report.protocolFeatures).toEqual([{ bit: 3, name: 'REPLY_ACK' }, { bit: 40 }]);
    expect(report.remarks.join('\n')).toContain('no specification names: 40');
  });

  test('of a disk has the disk’s name once the configuration shows that it is one', () => {
    const disk = VirtioBlkConfig.encode({
      ...VirtioBlkConfig.decode(new Uint8Array(VirtioBlkConfig.size)),
      capacity: 8n,
      blkSize: 4096,
    });
    const { report } = probePeer({
      GET_FEATURES: MODERN | maskOf(6),
      GET_PROTOCOL_FEATURES: maskOf(CONFIG),
      GET_CONFIG: ConfigAccess.encode({ offset: 0, flags: 0, contents: disk }),
    });
    expect(report.device.kind).toBe('block');
    expect(report.features).toContainEqual({ bit: 6, name: 'BLK_BLK_SIZE' });
    expect(report.config?.meaning).toBe('8 sectors of 512 bytes, blocks of 4096 bytes');
  });
});

describe('a back-end that', () => {
  test('says nothing is given up at the deadline, and nothing more is asked', () => {
    const { report, asked } = probePeer({ GET_FEATURES: undefined });
    expect(report.failure?.code).toBe('TIMEOUT');
    expect(asked).toEqual(['GET_FEATURES']);
  });

  test('offers REPLY_ACK and does not honour it is told so', () => {
    const { report } = probePeer({
      GET_FEATURES: MODERN,
      GET_PROTOCOL_FEATURES: maskOf(REPLY_ACK, CONFIGURE_MEM_SLOTS),
      GET_MAX_MEM_SLOTS: 32n,
      SET_OWNER: undefined,
    });
    expect(report.acknowledges).toEqual({
      owner: 'not answered',
      addRegion: 'not asked',
      removeRegion: 'not asked',
    });
    expect(report.memslots).toEqual({ announced: 32, qemu: 32 });
  });

  test('refuses a region is told so, and is not asked to remove it', () => {
    const { report } = probePeer({
      GET_FEATURES: MODERN,
      GET_PROTOCOL_FEATURES: maskOf(REPLY_ACK, CONFIGURE_MEM_SLOTS),
      GET_MAX_MEM_SLOTS: 2n ** 60n,
      ADD_MEM_REG: 1n,
    });
    expect(report.acknowledges.addRegion).toBe('refused');
    expect(report.acknowledges.removeRegion).toBe('not asked');
    expect(report.memslots).toEqual({ announced: '1152921504606846976', qemu: 512 });
  });

  test('has no protocol features is asked no protocol questions', () => {
    const { report, asked } = probePeer({ GET_FEATURES: maskOf(VirtioFeature.VERSION_1) });
    expect(asked).toEqual(['GET_FEATURES']);
    expect(report.memslots).toEqual({ qemu: 0 });
    expect(report.remarks).toHaveLength(1);
  });

  test('does not answer how many slots it has is not said to have none', () => {
    const report = reportOf({
      features: MODERN,
      protocolFeatures: maskOf(REPLY_ACK, CONFIGURE_MEM_SLOTS),
      owner: 'not asked',
      addRegion: 'not asked',
      removeRegion: 'not asked',
      failure: new ProtocolError('TIMEOUT', 'GET_MAX_MEM_SLOTS: no answer'),
    });
    expect(report.remarks.join('\n')).not.toContain('no CONFIGURE_MEM_SLOTS');
  });

  test('has no slots is remarked, with the features it has', () => {
    const { report } = probePeer({
      GET_FEATURES: MODERN,
      GET_PROTOCOL_FEATURES: maskOf(MQ),
      GET_QUEUE_NUM: 2n,
    });
    expect(protocolNames(report)).toEqual(['MQ']);
    expect(report.remarks.join('\n')).toContain('no REPLY_ACK');
    expect(report.memslots).toEqual({ qemu: 8 });
  });
});
