/** Chains that no driver may make, as cases: each costs its request, at most its ring, and never the back-end. */
import {
  VIRTIO_RING_F_INDIRECT_DESC,
  VRING_DESC_F_NEXT as NEXT,
  VRING_DESC_F_WRITE as WRITE,
} from '../../protocol/virtio-ring.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import { GiB } from '../units.ts';
import type { ConformanceCase } from './case.ts';
import { endureBadChain } from './hostile.ts';
import { Plane } from './plane.ts';
import type { ProbedRing } from './probed-ring.ts';
import { type Descriptor, writeTable } from './raw-ring.ts';
import { capitalised } from './titles.ts';

const EXPECTED =
  'the chain is given back or the ring is stopped; a good request is answered, at once or when the ring was set up anew';

/** What bad chains are made of. */
export interface Parts {
  /** A good request, to be read. */
  readonly request: GuestBuffer;
  /** Room for its answer. */
  readonly reply: GuestBuffer;
  /** Guest physical address behind the last region. */
  readonly end: number;
  /** Guest physical address far from any region. */
  readonly outside: number;
  /** Puts descriptors into an indirect table. @returns its address */
  readonly table: (list: readonly Descriptor[]) => number;
}

export interface BadChain {
  readonly id: string;
  readonly title: string;
  readonly says: string;
  readonly section?: string;
  readonly isIndirect?: true;
  /** From descriptor 0 on, which is the head. */
  readonly chain: (parts: Parts) => readonly Descriptor[];
  /** Writable bytes of the chain that lie in memory: no more can have been written. All of `reply` unless said. */
  readonly writable?: number;
}

/** The request, readable, with a successor. */
export const out = ({ request }: Parts, next = 1): Descriptor =>
  at(request.gpa, request.bytes.length, NEXT, next);
/** All room for the answer, and the end of the chain. */
export const answer = ({ reply }: Parts): Descriptor => at(reply.gpa, reply.bytes.length, WRITE);
/** One descriptor. */
export function at(gpa: number | bigint, length: number, flags: number, next = 0): Descriptor {
  return { gpa, length, flags, next };
}

export const badChainCase = ({
  id,
  title,
  says,
  section = 'virtio 1.2 § 2.7.5',
  isIndirect,
  chain,
  writable,
}: BadChain): ConformanceCase => ({
  id: `hostile.${id}`,
  title: capitalised(title),
  level: 'robustness',
  spec: { section, says },
  expected: EXPECTED,
  needs: {
    device: ['fs', 'blk'],
    ...(isIndirect === undefined ? {} : { features: [VIRTIO_RING_F_INDIRECT_DESC] }),
  },
  run: (rig) => {
    const plane = new Plane(rig);
    const ring = plane.startRing();
    ring.request();
    const parts = partsOf(plane, ring);
    endureBadChain(plane, ring, {
      chain: chain(parts),
      parts: [parts.request],
      writable: writable ?? parts.reply.bytes.length,
    });
  },
});

function partsOf(plane: Plane, ring: ProbedRing): Parts {
  const probe = plane.probe();
  const request = ring.scratch.take(probe.readable.length);
  request.bytes.set(probe.readable);
  const reply = ring.scratch.take(probe.writable);
  const tables = plane.guest.ram.allocate(400_000, 16);
  return {
    request,
    reply,
    end: plane.guest.ram.layout.baseSize,
    outside: 2 * GiB,
    table: (list) => {
      writeTable(tables.bytes, list);
      return tables.gpa;
    },
  };
}
