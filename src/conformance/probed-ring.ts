/**
 * One ring of a case about rings or descriptors: good requests laid out as the case wants, and what came back.
 *
 * What every request is checked for, whatever its case is about: the used element names a chain in flight, once; its
 * length fits; nothing was written beside the writable buffers or into readable ones; the answer is good.
 */
import { VRING_DESC_F_INDIRECT, VRING_DESC_F_WRITE } from '../../protocol/virtio-ring.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { drainEventfd, signalEventfd } from '../host/eventfd.ts';
import type { GuestBuffer } from '../machine/guest-ram.ts';
import { type Probe, UNTOUCHED } from './device.ts';
import { GuardedMemory } from './guarded-memory.ts';
import type { Plane } from './plane.ts';
import { type Descriptor, DESCRIPTOR_BYTES, RawRing, rawRingBytes, writeTable } from './raw-ring.ts';
import { chained, described, type Order, pieces, type Shape, type Unlinked } from './shape.ts';
import { check, died, failed, hungUp } from './verdict.ts';

/** A request in the ring. */
export interface InFlight {
  readonly probe: Probe;
  readonly head: number;
  readonly readable: readonly GuestBuffer[];
  readonly writable: readonly GuestBuffer[];
  /** Used elements so far that named it, and the last one's length. */
  answers: number;
  written: number;
}

export interface SetUp {
  /** The avail index to start from. Default 0. */
  readonly base?: number;
  /** The used index to start from; otherwise as `base`. */
  readonly used?: number;
  /** Of SET_VRING_ADDR. */
  readonly flags?: number;
  /** Default true. */
  readonly enable?: boolean;
  /** Default true; `poll` says that there is no descriptor. */
  readonly kick?: boolean | 'poll';
}

const NO_FD = 0x100n;
const SCRATCH_BYTES = 512 * 1024;

export class ProbedRing {
  readonly raw: RawRing;
  readonly index: number;
  /** Where requests lie unless a shape says otherwise. */
  readonly scratch: GuardedMemory;
  kickFd: number;
  callFd: number;
  readonly errFd: number;
  readonly #plane: Plane;
  #inFlight = new Map<number, InFlight>();
  #nextDescriptor = 0;
  #seen = 0;

  constructor(plane: Plane, index: number, num: number) {
    this.#plane = plane;
    this.index = index;
    const { ram } = plane.guest;
    this.raw = new RawRing(num, ram.allocate(rawRingBytes(num), 4096));
    this.scratch = new GuardedMemory(ram.allocate(SCRATCH_BYTES, 4096));
    this.kickFd = plane.rig.eventfd();
    this.callFd = plane.rig.eventfd();
    this.errFd = plane.rig.eventfd();
  }

  /** Lays the ring out anew and tells the back-end all of it, in the order of QEMU. */
  setUp(options: SetUp = {}): this {
    const { base = 0, used = base } = options;
    this.reset(base, used);
    return this.tell(options);
  }

  /** As `setUp`, and leaves the ring in memory as it is. */
  tell({ base = 0, flags = 0, enable = true, kick = true }: SetUp = {}): this {
    const { index, raw } = this;
    const { link } = this.#plane;
    link.accepts(R.SET_VRING_NUM, { index, num: raw.num });
    link.accepts(R.SET_VRING_BASE, { index, num: base });
    this.tellAddresses(flags);
    link.accepts(R.SET_VRING_CALL, BigInt(index), { fds: [this.callFd] });
    link.accepts(R.SET_VRING_ERR, BigInt(index), { fds: [this.errFd] });
    if (kick === 'poll') link.accepts(R.SET_VRING_KICK, BigInt(index) | NO_FD);
    else if (kick) link.accepts(R.SET_VRING_KICK, BigInt(index), { fds: [this.kickFd] });
    if (enable) this.enable();
    return this;
  }

  /** Empties the ring in memory, and the signals of its descriptors. */
  reset(base = 0, used = base): void {
    this.raw.reset(base, used);
    this.#inFlight.clear();
    this.#nextDescriptor = 0;
    this.scratch.reset();
    this.#seen = used;
    for (const fd of [this.kickFd, this.callFd, this.errFd]) drainEventfd(fd);
  }

  /** SET_VRING_ADDR. */
  tellAddresses(flags = 0): void {
    this.#plane.link.accepts(R.SET_VRING_ADDR, this.addresses(flags));
  }

  /** The payload of SET_VRING_ADDR. */
  addresses(flags = 0) {
    const { ram } = this.#plane.guest;
    return {
      index: this.index,
      flags,
      descUserAddr: ram.userAddress(this.raw.descGpa),
      usedUserAddr: ram.userAddress(this.raw.usedGpa),
      availUserAddr: ram.userAddress(this.raw.availGpa),
      logGuestAddr: BigInt(this.raw.usedGpa),
    };
  }

  /** SET_VRING_ENABLE, if there is one. */
  enable(isEnabled = true): void {
    if (!this.#plane.hasEnable) return;
    this.#plane.link.accepts(R.SET_VRING_ENABLE, { index: this.index, num: isEnabled ? 1 : 0 });
  }

  /** GET_VRING_BASE. @returns the index to go on at */
  stop(): number {
    return this.#plane.guest.stopRing(this.index);
  }

  kick(): void {
    signalEventfd(this.kickFd);
  }

  /** Whether the ring's err was signalled since this was last asked. */
  hasFailed(): boolean {
    return drainEventfd(this.errFd) >= 0;
  }

  /** Whether a call came since this was last asked. */
  wasCalled(): boolean {
    return drainEventfd(this.callFd) >= 0;
  }

  /** Lays a request out and offers it; the device does not see it yet. */
  place(probe: Probe, shape: Shape = {}): InFlight {
    this.#reuse();
    const take = shape.place ?? ((size: number) => this.scratch.take(size));
    const readable = pieces(probe.readable.length, shape.readable).map((size) => take(size, false));
    const writable = pieces(probe.writable, shape.writable).map((size) => take(size, true));
    let done = 0;
    for (const { bytes } of readable) {
      bytes.set(probe.readable.subarray(done, done + bytes.length));
      done += bytes.length;
    }
    for (const { bytes } of writable) bytes.fill(UNTOUCHED);
    const head = this.#describe(
      [
        ...readable.map((buffer) => described(buffer, 0)),
        ...writable.map((b) => described(b, VRING_DESC_F_WRITE)),
      ],
      shape,
    );
    this.raw.offer(head);
    const request: InFlight = { probe, head, readable, writable, answers: 0, written: 0 };
    this.#inFlight.set(head, request);
    return request;
  }

  /** Descriptors of the case's own, as a chain from descriptor 0 on: offered, and expected back. @returns its head */
  placeRaw(list: readonly Descriptor[]): InFlight {
    this.#reuse();
    const head = this.#nextDescriptor;
    list.forEach((descriptor, i) => this.raw.write(head + i, descriptor));
    this.#nextDescriptor += list.length;
    this.raw.offer(head);
    const request = { probe: ANY_ANSWER, head, readable: [], writable: [], answers: 0, written: 0 };
    this.#inFlight.set(head, request);
    return request;
  }

  /** Lets the device see what was offered, and kicks whether it wants that or not. */
  submit(): void {
    this.raw.publish();
    this.kick();
  }

  /** A good request from beginning to end. @throws {CaseEnd} if it is not answered, or badly */
  request(shape: Shape = {}, probe: Probe = this.#plane.probe()): InFlight {
    const request = this.place(probe, shape);
    this.submit();
    this.finish(request);
    return request;
  }

  /** Waits for the answer. @throws {CaseEnd} `dead` if none comes, `fail` if it is wrong */
  finish(request: InFlight, timeoutMs: number = this.#plane.rig.clock.timeoutMs): void {
    if (!this.isAnswered(request, timeoutMs)) this.#unanswered(request, timeoutMs);
    this.checkAnswer(request);
  }

  /** Whether it is answered within so many milliseconds; 0 looks once. Ends early if the back-end has gone. */
  isAnswered(request: InFlight, withinMs: number): boolean {
    this.#plane.waitUntil(() => {
      this.collect();
      return request.answers > 0;
    }, withinMs);
    return request.answers > 0;
  }

  /** Takes in what the device has put into the used ring. @throws {CaseEnd} if it answers what was not asked */
  collect(): number {
    const now = this.raw.usedIndex;
    const count = (now - this.#seen) & 0xffff;
    check(
      count <= this.raw.num,
      `ring ${this.index}: the used index went from ${this.#seen} to ${now}, the ring has ${this.raw.num} entries`,
    );
    for (let i = 0; i < count; i += 1) {
      const { id, length } = this.raw.used(this.#seen);
      this.#seen = (this.#seen + 1) & 0xffff;
      const request = this.#inFlight.get(id);
      if (request === undefined)
        failed(`ring ${this.index}: used element names head ${id}, which is not in flight`);
      check(request.answers === 0, `ring ${this.index}: head ${id} was given back twice`);
      request.answers += 1;
      request.written = length;
    }
    return count;
  }

  /** Looks at the answer of a request that was given back. @throws {CaseEnd} `fail` if it is wrong */
  checkAnswer({ probe, readable, writable, written }: InFlight): void {
    const sent = Buffer.concat(readable.map(({ bytes }) => bytes));
    check(
      sent.equals(probe.readable) || probe === ANY_ANSWER,
      `${probe.name}: a device-readable buffer was written`,
    );
    for (const buffer of [...readable, ...writable])
      check(this.scratch.isIntactAround(buffer), `${probe.name}: memory beside its buffers was written`);
    const wrong = probe.judge(Buffer.concat(writable.map(({ bytes }) => bytes)), written);
    if (wrong !== undefined) failed(`${probe.name}: ${wrong}`);
  }

  /** Descriptors and memory of requests that were all given back are used again. */
  #reuse(): void {
    for (const request of this.#inFlight.values()) if (request.answers === 0) return;
    this.#inFlight = new Map();
    this.#nextDescriptor = 0;
    this.scratch.reset();
  }

  #describe(
    list: readonly Unlinked[],
    { indirectAfter, indirectFlags = 0, misaligned = 0, order = 'forwards' }: Shape,
  ): number {
    if (indirectAfter === undefined) return this.#chain(list, order);
    const direct = list.slice(0, indirectAfter);
    const inTable = list.length - direct.length;
    const table = this.scratch.take(inTable * DESCRIPTOR_BYTES + 2 * DESCRIPTOR_BYTES);
    const start = (-table.gpa & (DESCRIPTOR_BYTES - 1)) + misaligned;
    writeTable(table.bytes.subarray(start), chained(list.slice(direct.length), order, 0));
    const gpa = table.gpa + start;
    const flags = VRING_DESC_F_INDIRECT | indirectFlags;
    return this.#chain([...direct, { gpa, length: inTable * DESCRIPTOR_BYTES, flags }], order);
  }

  #chain(list: readonly Unlinked[], order: Order): number {
    const head = this.#nextDescriptor;
    if (head + list.length > this.raw.num)
      throw new RangeError(`ring ${this.index} has no ${list.length} free descriptors`);
    chained(list, order, head).forEach((descriptor, i) => this.raw.write(head + i, descriptor));
    this.#nextDescriptor += list.length;
    return head;
  }

  #unanswered({ probe }: InFlight, timeoutMs: number): never {
    if (this.#plane.link.hasEnded()) hungUp(`${probe.name}: the connection was closed`);
    const err = this.hasFailed() ? ', err was signalled' : '';
    return died(`${probe.name} on ring ${this.index}: no answer in ${timeoutMs} ms${err}`);
  }
}

const ANY_ANSWER: Probe = {
  name: 'the bad chain',
  readable: new Uint8Array(0),
  writable: 0,
  judge: () => undefined,
};
