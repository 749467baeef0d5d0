/** What a back-end has to endure: a bad chain, and then good requests as if nothing had been. */
import type { GuestBuffer } from '../machine/guest-ram.ts';
import type { Plane } from './plane.ts';
import type { InFlight, ProbedRing } from './probed-ring.ts';
import type { Descriptor } from './raw-ring.ts';
import { check, hungUp } from './verdict.ts';

/** How long a bad chain may take to be given back, and a good request behind it, before the ring is taken for stopped. */
const PATIENCE_MS = 200;

interface BadRequest {
  /** From the next free descriptor on; what they link to is counted from 0. */
  readonly chain: readonly Descriptor[];
  /** Buffers that must not be written. */
  readonly parts: readonly GuestBuffer[];
  /** Bytes that can have been written. */
  readonly writable: number;
}

/** Offers a bad chain in an empty ring. @throws {CaseEnd} unless good requests are answered afterwards */
export function endureBadChain(plane: Plane, ring: ProbedRing, { chain, parts, writable }: BadRequest): void {
  const before = parts.map(({ bytes }) => Buffer.from(bytes));
  const canary = plane.guest.ram.slotBuffer(0, 0, plane.guest.ram.layout.slotSize);
  canary.bytes.fill(CANARY);
  const bad = ring.placeRaw(chain);
  ring.submit();
  const isBack = isGivenBack(plane, ring, bad);
  if (isBack)
    check(
      bad.written <= writable,
      `the chain was given back with length ${bad.written}, at most ${writable} bytes can have been written`,
    );
  parts.forEach(({ bytes }, i) => check(before[i]!.equals(bytes), 'a device-readable buffer was written'));
  check(
    canary.bytes.every((octet) => octet === CANARY),
    'memory that is in no region was written',
  );
  expectService(plane, ring, isBack);
}

/** A good request is answered, now or when the ring was set up anew. @throws {CaseEnd} otherwise */
export function expectService(plane: Plane, ring: ProbedRing, isRunning: boolean): void {
  if (isRunning && !ring.hasFailed()) {
    const request = ring.place(plane.probe());
    ring.submit();
    if (isGivenBack(plane, ring, request)) return ring.checkAnswer(request);
  }
  plane.rig.trace.note('  the ring is set up anew');
  if (plane.link.hasEnded()) hungUp('the connection was closed');
  ring.stop();
  ring.setUp().request();
}

function isGivenBack(plane: Plane, ring: ProbedRing, request: InFlight): boolean {
  let hasFailed = false;
  plane.waitUntil(() => {
    ring.collect();
    hasFailed ||= ring.hasFailed();
    return request.answers > 0 || hasFailed;
  }, PATIENCE_MS);
  return request.answers > 0 && !hasFailed;
}

const CANARY = 0x5c;
