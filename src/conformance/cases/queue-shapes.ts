/** Every way a driver may lay a request out in descriptors. */
import { VIRTIO_RING_F_INDIRECT_DESC, VRING_DESC_F_WRITE } from '../../../protocol/virtio-ring.ts';
import type { ConformanceCase, Level } from '../case.ts';
import { unansweredProbe } from '../device-requests.ts';
import { Plane } from '../plane.ts';
import type { Shape } from '../shape.ts';
import { capitalised } from '../titles.ts';

const KNOWN = { device: ['fs', 'blk'] } as const;
const INDIRECT = { ...KNOWN, features: [VIRTIO_RING_F_INDIRECT_DESC] } as const;
const MEM_SLOTS = { ...KNOWN, protocolFeatures: ['CONFIGURE_MEM_SLOTS'], memSlots: 4 } as const;
const FRAMING = {
  section: 'virtio 1.2 § 2.7.4.1',
  says: 'the device must not make assumptions about the particular arrangement of descriptors',
};
const LIMIT = {
  section: 'virtio 1.2 § 2.7.4.1',
  says: 'no assumptions about the arrangement of descriptors; a reasonable limit of their number is allowed',
};
const TABLE = 'virtio 1.2 § 2.7.5.3';

interface ShapeCase {
  readonly id: string;
  readonly title: string;
  readonly level: Level;
  readonly spec: ConformanceCase['spec'];
  readonly needs: NonNullable<ConformanceCase['needs']>;
  readonly shape: Shape;
  /** Entries of the ring, beside the usual 64. */
  readonly num?: number;
}

const many = (size: number): readonly number[] => Array.from({ length: 600 }, () => size);

const SHAPES: readonly ShapeCase[] = [
  framed('two', 'one descriptor to read and one to write', {}),
  framed('header-apart', 'headers in descriptors of their own', { readable: [40], writable: [16] }),
  framed('blk-usual', '16 bytes to read, 512 to write and the rest behind them', {
    readable: [16],
    writable: [512],
  }),
  framed('odd', 'cuts at odd places, within headers', { readable: [1, 7, 13], writable: [3, 11, 2] }),
  framed('first-byte', 'the first byte apart', { readable: [1], writable: [1] }),
  framed('last-byte', 'the last byte apart', { readable: [15, 24, 16], writable: [15, 104, 393] }),
  framed('threes', 'buffers of 3 bytes', { readable: many(3), writable: many(3) }, { num: 256 }),
  framed('backwards', 'links that go backwards through the table', {
    readable: [8, 8, 8],
    writable: [8, 8, 8],
    order: 'backwards',
  }),
  {
    id: 'bytes',
    title: 'A descriptor for each byte',
    level: 'should',
    spec: LIMIT,
    needs: KNOWN,
    shape: { readable: many(1), writable: many(1) },
    num: 1024,
  },
  indirect('all', 'a request in an indirect table', { indirectAfter: 0 }),
  indirect(
    'cut',
    'an indirect table of many descriptors',
    {
      readable: many(5),
      writable: many(5),
      indirectAfter: 0,
    },
    { num: 256 },
  ),
  indirect('backwards', 'an indirect table whose links go backwards', {
    readable: [8, 8, 8],
    writable: [8, 8, 8],
    indirectAfter: 0,
    order: 'backwards',
  }),
  indirect(
    'write-flag',
    'an indirect table behind a descriptor that says WRITE',
    {
      indirectAfter: 0,
      indirectFlags: VRING_DESC_F_WRITE,
    },
    { says: 'the device must ignore the write-only flag of the descriptor that refers to an indirect table' },
  ),
  ...[1, 2, 3].map((direct) =>
    indirect(
      `after-${direct}`,
      `${direct} direct descriptor${direct === 1 ? '' : 's'} followed by a table`,
      {
        readable: [8, 8],
        writable: [8, 8],
        indirectAfter: direct,
      },
      {
        says: 'the device must handle zero or more normal descriptors followed by one that refers to a table',
      },
    ),
  ),
  indirect(
    'unaligned',
    'an indirect table at an odd address',
    { indirectAfter: 0, misaligned: 1 },
    {
      level: 'should',
      says: 'the table may be stored anywhere in memory',
    },
  ),
  indirect(
    'word-aligned',
    'an indirect table aligned to 4',
    { indirectAfter: 0, misaligned: 4 },
    {
      level: 'should',
      says: 'the table may be stored anywhere in memory',
    },
  ),
];

export const QUEUE_SHAPE_CASES: readonly ConformanceCase[] = [
  ...SHAPES.map(({ id, title, level, spec, needs, shape, num = 64 }): ConformanceCase => ({
    id: `queue.shape.${id}`,
    title: capitalised(title),
    level,
    spec,
    needs,
    expected:
      'the request is answered as if it lay in two descriptors, and only its writable buffers are written',
    run: (rig) => {
      const ring = new Plane(rig).startRing(num);
      for (let i = 0; i < 3; i += 1) ring.request(shape);
    },
  })),
  {
    id: 'queue.shape.whole-ring',
    title: 'A chain of as many descriptors as the ring has entries',
    level: 'should',
    spec: {
      section: 'virtio 1.2 § 2.7.5',
      says: 'the number of descriptors in the table is the maximum length of a chain; a reasonable limit is allowed',
    },
    expected: 'the request is answered',
    needs: KNOWN,
    run: (rig) => {
      const ring = new Plane(rig).startRing(8);
      ring.request();
      ring.request({ readable: [8, 2, 3], writable: [9, 1, 1] });
    },
  },
  {
    id: 'queue.shape.mixed',
    title: 'Requests of different shapes in flight together',
    level: 'must',
    spec: FRAMING,
    expected: 'all are answered',
    needs: KNOWN,
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing(256);
      ring.request();
      const shapes: readonly Shape[] = [
        {},
        { readable: [1, 2] },
        { writable: [5, 5] },
        { order: 'backwards' },
      ];
      for (let round = 0; round < 5; round += 1) {
        const requests = Array.from({ length: 20 }, (_, i) =>
          ring.place(plane.probe(), shapes[i % shapes.length]),
        );
        ring.submit();
        for (const request of requests) ring.finish(request);
      }
    },
  },
  {
    id: 'queue.shape.nothing-writable',
    title: 'A request that is not answered needs no writable descriptor',
    level: 'must',
    spec: {
      section: 'virtio 1.2 § 2.7.13.1; § 5.11.6',
      says: 'a buffer has zero or more writable elements; FUSE_FORGET has no reply',
    },
    expected: 'the chain is given back with length 0',
    needs: { device: ['fs'] },
    run: (rig) => {
      const plane = new Plane(rig);
      const hiprio = plane.startRing(64, 0);
      plane.startRing().request();
      hiprio.request({}, unansweredProbe());
      hiprio.request({ readable: [40] }, unansweredProbe());
    },
  },
  {
    id: 'queue.shape.more-room',
    title: 'More room for the answer than it needs',
    level: 'must',
    spec: {
      section: 'virtio 1.2 § 2.7.8',
      says: 'the length of the used element is how many bytes were written, from the first writable one on',
    },
    expected: 'the used length is that of the answer, not that of the room',
    needs: { device: ['fs'] },
    run: (rig) => {
      const plane = new Plane(rig);
      const ring = plane.startRing();
      ring.request();
      const probe = plane.probe();
      ring.request({}, { ...probe, writable: 4096 });
    },
  },
  ...['in', 'out', 'both'].map((side): ConformanceCase => ({
    id: `queue.shape.across-regions-${side}`,
    title: `Buffers (${side}) that begin in one memory region and end in the next`,
    level: 'must',
    spec: {
      section: 'vhost-user § Memory access; virtio 1.2 § 2.7.5',
      says: 'a buffer is contiguous in guest physical memory, and regions may be neighbours there',
    },
    expected: 'the request is answered',
    needs: MEM_SLOTS,
    run: (rig) => {
      const plane = new Plane(rig, { slots: [0, 1, 2] });
      const ring = plane.startRing();
      ring.request();
      const { ram } = plane.guest;
      const { slotSize } = ram.layout;
      ring.request({
        place: (size, isWritable) => {
          if (side === (isWritable ? 'in' : 'out')) return ring.scratch.take(size);
          return isWritable ? ram.slotBuffer(0, slotSize - 17, size) : ram.slotBuffer(1, slotSize - 8, size);
        },
      });
    },
  })),
  {
    id: 'queue.shape.above-4-gib',
    title: 'Buffers above 4 GiB',
    level: 'must',
    spec: {
      section: 'virtio 1.2 § 2.7.5',
      says: 'the address of a buffer is a 64-bit guest physical address',
    },
    expected: 'the request is answered',
    needs: { ...KNOWN, protocolFeatures: ['CONFIGURE_MEM_SLOTS'], memSlots: 2 },
    run: (rig) => {
      const plane = new Plane(rig, { slots: [0] });
      const ring = plane.startRing();
      ring.request();
      let offset = 0;
      ring.request({
        place: (size) => {
          offset += 1024;
          return plane.guest.ram.slotBuffer(0, offset, size);
        },
      });
    },
  },
];

function framed(id: string, title: string, shape: Shape, { num }: { readonly num?: number } = {}): ShapeCase {
  return {
    id,
    title,
    level: 'must',
    spec: FRAMING,
    needs: KNOWN,
    shape,
    ...(num === undefined ? {} : { num }),
  };
}

function indirect(
  id: string,
  title: string,
  shape: Shape,
  {
    level = 'must',
    num,
    says = 'a descriptor may refer to a table of descriptors anywhere in memory, linked by next from entry 0 on',
  }: { readonly level?: Level; readonly num?: number; readonly says?: string } = {},
): ShapeCase {
  return {
    id: `indirect-${id}`,
    title,
    level,
    spec: { section: TABLE, says },
    needs: INDIRECT,
    shape,
    ...(num === undefined ? {} : { num }),
  };
}
