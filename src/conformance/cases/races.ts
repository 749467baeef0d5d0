/** Drivers that change what they have offered while the device looks at it. */
import { InHeader } from '../../../protocol/fuse.ts';
import {
  VIRTIO_RING_F_INDIRECT_DESC,
  VRING_DESC_F_INDIRECT as INDIRECT,
  VRING_DESC_F_NEXT as NEXT,
  VRING_DESC_F_WRITE as WRITE,
} from '../../../protocol/virtio-ring.ts';
import { GiB } from '../../units.ts';
import type { GuestBuffer } from '../../machine/guest-ram.ts';
import type { ConformanceCase } from '../case.ts';
import { expectService } from '../hostile.ts';
import { Plane } from '../plane.ts';
import type { ProbedRing } from '../probed-ring.ts';
import { RacingWriter } from '../racing-writer.ts';
import { type Descriptor, DESCRIPTOR_BYTES, writeTable } from '../raw-ring.ts';
import { check, hungUp } from '../verdict.ts';

/** How long each race goes on. */
const RACE_MS = 400;
/** How long requests may take before the ring is taken for stopped. */
const PATIENCE_MS = 200;
/**
 * Entries of the ring, and chains offered at once: the longer the device is at work, the more often it is disturbed. Two
 * descriptors each: no more than the ring can hold.
 */
const NUM = 1024;
const BATCH = NUM / 2;
const CANARY = 0x5c;

/** Where the request under change lies. */
interface Scene {
  readonly request: GuestBuffer;
  readonly reply: GuestBuffer;
  /** Descriptor `index` of the ring's table. */
  readonly descriptor: (index: number) => number;
  /** An indirect table with the same chain. */
  readonly table: GuestBuffer;
  /** The avail ring's entries. */
  readonly entries: number;
}

interface RaceCase {
  readonly id: string;
  readonly title: string;
  readonly isIndirect?: true;
  readonly device?: 'fs';
  /** What is written over and over, the good first, and where: a guest physical address of the base region. */
  readonly race: (scene: Scene) => { readonly gpa: number; readonly states: readonly Uint8Array[] };
}

const RACES: readonly RaceCase[] = [
  {
    id: 'address',
    title: 'The address of the answer, in memory and far outside',
    race: ({ reply, descriptor }) => ({
      gpa: descriptor(1),
      states: [reply.gpa, 2 * GiB, 2 ** 46, 2 ** 62].map((gpa) =>
        octets({ gpa, length: reply.bytes.length, flags: WRITE, next: 0 }),
      ),
    }),
  },
  {
    id: 'length',
    title: 'The length of the answer, as it is and 4 GiB',
    race: ({ reply, descriptor }) => ({
      gpa: descriptor(1),
      states: [reply.bytes.length, 0xffff_ffff, 0].map((length) =>
        octets({ gpa: reply.gpa, length, flags: WRITE, next: 0 }),
      ),
    }),
  },
  {
    id: 'request-length',
    title: 'The length of the request, as it is, too short and 4 GiB',
    race: ({ request, descriptor }) => ({
      gpa: descriptor(0),
      states: [request.bytes.length, 3, 0xffff_f000].map((length) =>
        octets({ gpa: request.gpa, length, flags: NEXT, next: 1 }),
      ),
    }),
  },
  {
    id: 'flags',
    title: 'The flags of the answer: writable, readable, with a successor, a table',
    race: ({ reply, descriptor }) => ({
      gpa: descriptor(1),
      states: [WRITE, 0, WRITE | NEXT, INDIRECT, 0xffff].map((flags) =>
        octets({ gpa: reply.gpa, length: reply.bytes.length, flags, next: 0 }),
      ),
    }),
  },
  {
    id: 'next',
    title: 'The successor of the request: the answer, itself, outside the ring',
    race: ({ request, descriptor }) => ({
      gpa: descriptor(0),
      states: [1, 0, NUM, 0xffff].map((next) =>
        octets({ gpa: request.gpa, length: request.bytes.length, flags: NEXT, next }),
      ),
    }),
  },
  {
    id: 'table',
    title: 'An indirect table: a chain, a table within it, an address far outside',
    isIndirect: true,
    race: ({ reply, table }) => ({
      gpa: table.gpa + DESCRIPTOR_BYTES,
      states: [
        { gpa: reply.gpa, length: reply.bytes.length, flags: WRITE, next: 0 },
        { gpa: table.gpa, length: 2 * DESCRIPTOR_BYTES, flags: INDIRECT, next: 0 },
        { gpa: 2 ** 46, length: 0xffff_ffff, flags: WRITE | NEXT, next: 1 },
      ].map(octets),
    }),
  },
  {
    id: 'entry',
    title: 'The entry of the avail ring: the head, another descriptor, outside the ring',
    race: ({ entries }) => ({
      gpa: entries,
      states: [0, 1, NUM, 0xffff].map((head) => new Uint8Array(new Uint16Array(NUM).fill(head).buffer)),
    }),
  },
  {
    id: 'fuse-length',
    title: 'The length in the header of a FUSE request',
    device: 'fs',
    race: ({ request }) => ({
      gpa: request.gpa + InHeader.offset.len,
      states: [request.bytes.length, 0, 40, 0xffff_ffff].map(
        (length) => new Uint8Array(new Uint32Array([length]).buffer),
      ),
    }),
  },
  {
    id: 'fuse-opcode',
    title: 'The opcode in the header of a FUSE request',
    device: 'fs',
    race: ({ request }) => ({
      gpa: request.gpa + InHeader.offset.opcode,
      states: [3, 1, 15, 0xffff_ffff].map((opcode) => new Uint8Array(new Uint32Array([opcode]).buffer)),
    }),
  },
];

export const RACE_CASES: readonly ConformanceCase[] = RACES.map(
  ({ id, title, isIndirect, device, race }): ConformanceCase => ({
    id: `race.${id}`,
    title: `${title}: changed while it is looked at`,
    level: 'robustness',
    spec: {
      section: 'virtio 1.2 § 2.7.13.3; vhost-user § Memory access',
      says: 'what was offered belongs to the device; what the driver does all the same concerns its own memory only',
    },
    expected:
      'chains are given back or the ring is stopped; memory in no region stays as it was; good requests are answered afterwards',
    needs: {
      device: device === undefined ? ['fs', 'blk'] : [device],
      ...(isIndirect === undefined ? {} : { features: [VIRTIO_RING_F_INDIRECT_DESC] }),
    },
    run: (rig) => {
      const plane = new Plane(rig);
      const { ram } = plane.guest;
      const ring = plane.startRing(NUM);
      ring.request();
      const probe = plane.probe();
      const buffers = [ram.allocate(4096, 4096), ram.allocate(4096, 4096), ram.allocate(4096, 4096)] as const;
      const [request, reply, table] = [
        { gpa: buffers[0].gpa, bytes: buffers[0].bytes.subarray(0, probe.readable.length) },
        { gpa: buffers[1].gpa, bytes: buffers[1].bytes.subarray(0, probe.writable) },
        buffers[2],
      ];
      const canary = ram.slotBuffer(0, 0, ram.layout.slotSize);
      canary.bytes.fill(CANARY);
      const layOut = (): void => {
        request.bytes.set(probe.readable);
        const chain = [
          { gpa: request.gpa, length: request.bytes.length, flags: NEXT, next: 1 },
          { gpa: reply.gpa, length: reply.bytes.length, flags: WRITE, next: 0 },
        ];
        if (isIndirect === undefined) chain.forEach((descriptor, i) => ring.raw.write(i, descriptor));
        else {
          writeTable(table.bytes, chain);
          ring.raw.write(0, { gpa: table.gpa, length: 2 * DESCRIPTOR_BYTES, flags: INDIRECT, next: 0 });
        }
      };
      const scene: Scene = {
        request,
        reply,
        table,
        descriptor: (index) => ring.raw.descGpa + index * DESCRIPTOR_BYTES,
        entries: ring.raw.availGpa + 4,
      };
      const { gpa, states } = race(scene);
      const [good, ...bad] = states;
      layOut();
      // The base region lies at the beginning of the memory's file, at guest physical address 0.
      const writer = rig.own(
        new RacingWriter({ fd: ram.fd, offset: gpa, states: bad.flatMap((each) => [each, good!]) }),
      );
      runRace(plane, ring, layOut);
      writer.stop();
      check(
        canary.bytes.every((octet) => octet === CANARY),
        'memory that is in no region was written',
      );
      expectService(plane, ring, false);
    },
  }),
);

/**
 * Offers descriptor 0 again and again, many times at once, so that the device is at work while the other thread writes.
 * A ring that was stopped is set up anew.
 */
function runRace(plane: Plane, ring: ProbedRing, layOut: () => void): void {
  const endsAt = performance.now() + RACE_MS;
  while (performance.now() < endsAt) {
    for (let i = 0; i < BATCH; i += 1) ring.raw.offer(0);
    ring.submit();
    let hasFailed = false;
    const isBack = plane.waitUntil(() => {
      hasFailed ||= ring.hasFailed();
      return hasFailed || ring.raw.usedIndex === ring.raw.next;
    }, PATIENCE_MS);
    if (isBack && !hasFailed) continue;
    if (plane.link.hasEnded()) hungUp('the connection was closed');
    ring.stop();
    ring.setUp();
    layOut();
  }
}

function octets(descriptor: Descriptor): Uint8Array {
  const bytes = new Uint8Array(DESCRIPTOR_BYTES);
  writeTable(bytes, [descriptor]);
  return bytes;
}
