/**
 * The guest of a case: RAM, rings, and good requests of its device, over one link. Steps are taken one by one, so that a
 * case can do the one it is about by itself.
 */
import { hasBit } from '../../protocol/bits.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../protocol/virtio-ring.ts';
import { GuestError } from '../errors.ts';
import { drainEventfd, signalEventfd } from '../host/eventfd.ts';
import { Cleanup } from '../host/owned-fd.ts';
import { GuestQueue } from '../machine/guest-queue.ts';
import { type GuestBuffer, GuestRam, type RamLayout } from '../machine/guest-ram.ts';
import { hex, KiB, MiB } from '../units.ts';
import type { BackendFacts } from './backend.ts';
import type { Clock } from './clock.ts';
import { type Device, type Probe, UNTOUCHED } from './device.ts';
import type { Link } from './link.ts';
import { negotiate, type NegotiateOptions } from './negotiate.ts';
import type { Trace } from './trace.ts';
import { check, died, failed, hungUp } from './verdict.ts';

export interface GuestOptions extends NegotiateOptions {
  readonly layout?: Partial<RamLayout>;
  /** Rings; otherwise as many as the device needs. */
  readonly queues?: number;
  /** Entries of each ring. */
  readonly num?: number;
  /** Descriptors of each request's indirect table, if INDIRECT_DESC is negotiated; 0 for none. */
  readonly indirectEntries?: number;
}

/** A request on its way. */
export interface PendingProbe {
  readonly probe: Probe;
  readonly queue: number;
  readonly head: number;
  readonly out: GuestBuffer;
  /** The used element's length, once it is there. */
  written: number | undefined;
}

export interface ProbeBuffers {
  readonly queue?: number;
  /** Where the device reads; the base region otherwise. */
  readonly in?: GuestBuffer;
  /** Where the device writes. */
  readonly out?: GuestBuffer;
}

const LAYOUT: RamLayout = { baseSize: 2 * MiB, slotSize: 64 * KiB, slots: 16 };
const BUFFER = 4096;
const BUFFERS = 32;
/** How long to wait for a call before looking into the ring without one. */
const LOOK_MS = 20;

export interface GuestSurroundings {
  readonly link: Link;
  readonly facts: BackendFacts;
  readonly device: Device;
  readonly clock: Clock;
  readonly trace: Trace;
}

export class Guest implements Disposable {
  readonly link: Link;
  readonly ram: GuestRam;
  readonly queues: readonly GuestQueue[];
  readonly #around: GuestSurroundings;
  readonly #owned = new Cleanup();
  readonly #options: GuestOptions;
  readonly #buffers: readonly GuestBuffer[];
  readonly #pending = new Map<string, PendingProbe>();
  #nextBuffer = 0;
  #probes = 0;

  /** Sends nothing yet. */
  constructor(around: GuestSurroundings, options: GuestOptions = {}) {
    this.#around = around;
    this.#options = options;
    this.link = around.link;
    this.ram = this.#owned.use(new GuestRam({ ...LAYOUT, ...options.layout }));
    const { num = 64, indirectEntries = 0, queues = Math.max(1, around.device.queues) } = options;
    const features = around.facts.features & (options.features ?? ~0n);
    const queue = {
      num,
      eventIdx: hasBit(features, VIRTIO_RING_F_EVENT_IDX),
      indirectEntries: hasBit(features, VIRTIO_RING_F_INDIRECT_DESC) ? indirectEntries : 0,
    };
    this.queues = Array.from({ length: queues }, () => this.#owned.use(new GuestQueue(this.ram, queue)));
    this.#buffers = Array.from({ length: BUFFERS }, () => this.ram.allocate(BUFFER, BUFFER));
  }

  /** Rings as at the beginning, requests in flight forgotten: for a device whose rings are all stopped. */
  resetRings(): void {
    for (const { driver } of this.queues) driver.reset();
    this.#pending.clear();
  }

  /** All rings: started, then enabled. */
  startRings(flags = 0): void {
    this.queues.forEach((_, index) => this.startRing(index, 0, flags));
    this.queues.forEach((_, index) => this.enableRing(index));
  }

  /** All rings: disabled, then stopped, as QEMU does. */
  stopRings(): void {
    this.queues.forEach((_, index) => this.enableRing(index, false));
    this.queues.forEach((_, index) => this.stopRing(index));
  }

  /** Everything: negotiates, shares the base region, starts and enables all rings. */
  start(): this {
    this.negotiate();
    this.shareMemory();
    this.startRings();
    return this;
  }

  negotiate(): void {
    negotiate(this.link, this.#around.facts, this.#options);
  }

  /** Shares the base region. */
  shareMemory(how: 'add' | 'table' = this.#memoryDialect): void {
    const { baseRegion: region, fd } = this.ram;
    if (how === 'add') this.link.accepts(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [fd] });
    else this.link.accepts(R.SET_MEM_TABLE, { padding: 0, regions: [region] }, { fds: [fd] });
  }

  /** Adds one slot of the RAM. Needs CONFIGURE_MEM_SLOTS. */
  addSlot(slot: number): void {
    const region = this.ram.slotRegion(slot);
    this.link.accepts(R.ADD_MEM_REG, { padding: 0n, region }, { fds: [this.ram.fd] });
  }

  removeSlot(slot: number): void {
    const region = { ...this.ram.slotRegion(slot), mmapOffset: 0n };
    this.link.accepts(R.REM_MEM_REG, { padding: 0n, region });
  }

  /** NUM, BASE, ADDR, CALL, ERR and KICK. @param flags of SET_VRING_ADDR */
  startRing(index: number, base = 0, flags = 0): void {
    this.placeRing(index, base, flags);
    const { callFd, errorFd, kickFd } = this.queues[index]!;
    this.link.accepts(R.SET_VRING_CALL, BigInt(index), { fds: [callFd] });
    this.link.accepts(R.SET_VRING_ERR, BigInt(index), { fds: [errorFd] });
    this.link.accepts(R.SET_VRING_KICK, BigInt(index), { fds: [kickFd] });
  }

  /** NUM, BASE and ADDR. */
  placeRing(index: number, base = 0, flags = 0): void {
    this.link.accepts(R.SET_VRING_NUM, { index, num: this.queues[index]!.driver.num });
    this.link.accepts(R.SET_VRING_BASE, { index, num: base });
    this.setAddr(index, flags);
  }

  setAddr(index: number, flags = 0): void {
    const { ram, queues } = this;
    const { driver } = queues[index]!;
    this.link.accepts(R.SET_VRING_ADDR, {
      index,
      flags,
      descUserAddr: ram.userAddress(driver.descGpa),
      usedUserAddr: ram.userAddress(driver.usedGpa),
      availUserAddr: ram.userAddress(driver.availGpa),
      logGuestAddr: BigInt(driver.usedGpa),
    });
  }

  enableRing(index: number, isEnabled = true): void {
    // Without protocol features the message does not exist, and rings are enabled.
    if (this.#around.facts.protocolFeatures === 0n) return;
    this.link.accepts(R.SET_VRING_ENABLE, { index, num: isEnabled ? 1 : 0 });
  }

  /** GET_VRING_BASE. @returns the next available index */
  stopRing(index: number): number {
    const answer = this.link.ask(R.GET_VRING_BASE, { index, num: 0 });
    check(answer.index === index, `GET_VRING_BASE of ring ${index} answered for ring ${answer.index}`);
    return answer.num;
  }

  /** Makes a good request and waits until it is answered. @throws {CaseEnd} if it is not, or badly */
  request(buffers: ProbeBuffers = {}): void {
    this.finish(this.submit(buffers));
  }

  /** Makes a good request and does not wait for it. */
  submit({
    queue = this.#around.device.requestQueue,
    in: readable = this.#takeBuffer(),
    out = this.#takeBuffer(),
  }: ProbeBuffers = {}): PendingProbe {
    const probe = this.#around.device.probe(this.#probes);
    this.#probes += 1;
    readable.bytes.set(probe.readable);
    out.bytes.fill(UNTOUCHED, 0, probe.writable);
    const head = this.queues[queue]!.driver.add(
      [readable.gpa, out.gpa],
      [probe.readable.length, probe.writable],
      2,
      1,
    );
    if (head < 0) throw new RangeError(`ring ${queue} is full`);
    const pending: PendingProbe = { probe, queue, head, out, written: undefined };
    this.#pending.set(`${queue}.${head}`, pending);
    this.#around.trace.note(
      `  ring ${queue}: ${probe.name}, reads ${hex(readable.gpa)}, writes ${hex(out.gpa)}`,
    );
    this.queues[queue]!.submit();
    return pending;
  }

  /** Kicks whatever the device asked for. */
  kick(queue: number): void {
    signalEventfd(this.queues[queue]!.kickFd);
  }

  /** Waits for the answer. @throws {CaseEnd} `dead` if none comes, `fail` if it is wrong */
  finish(pending: PendingProbe, timeoutMs: number = this.#around.clock.timeoutMs): void {
    const { probe, queue } = pending;
    if (!this.isAnswered(pending, timeoutMs)) {
      if (this.link.hasEnded()) hungUp(`${probe.name}: the connection was closed`);
      const hasFailed = this.queues[queue]!.hasFailed();
      died(
        `${probe.name} on ring ${queue}: no answer in ${timeoutMs} ms${hasFailed ? ', err was signalled' : ''}`,
      );
    }
    const wrong = probe.judge(pending.out.bytes, pending.written!);
    if (wrong !== undefined) failed(`${probe.name}: ${wrong}`);
  }

  /** Whether it is answered within so many milliseconds; 0 looks once. Ends early if the back-end has gone. */
  isAnswered(pending: PendingProbe, withinMs: number): boolean {
    const { clock } = this.#around;
    clock.check();
    const endsAt = performance.now() + Math.min(withinMs, clock.left());
    const queue = this.queues[pending.queue]!;
    for (;;) {
      this.#collect(pending.queue);
      if (pending.written !== undefined) return true;
      const left = Math.ceil(endsAt - performance.now());
      if (left <= 0 || this.link.hasEnded()) return false;
      if (queue.driver.enableCalls()) continue;
      clock.wait(queue.callFd, Math.min(left, LOOK_MS));
      drainEventfd(queue.callFd);
    }
  }

  /** A buffer of a page in the base region; they are used in turn. */
  #takeBuffer(): GuestBuffer {
    const buffer = this.#buffers[this.#nextBuffer % BUFFERS]!;
    this.#nextBuffer += 1;
    return buffer;
  }

  /** The device forgets its session: the next request is the first again. */
  forgetSession(): void {
    this.#probes = 0;
  }

  /** The device has the session of another connection: requests go on, the first of a session is not made. */
  resumeSession(): void {
    this.#probes = Math.max(1, this.#probes);
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  get #memoryDialect(): 'add' | 'table' {
    return this.link.hasProtocolFeature(ProtocolFeature.CONFIGURE_MEM_SLOTS) ? 'add' : 'table';
  }

  #collect(index: number): void {
    const { driver } = this.queues[index]!;
    try {
      for (let head = driver.collect(); head >= 0; head = driver.collect()) {
        const pending = this.#pending.get(`${index}.${head}`);
        this.#pending.delete(`${index}.${head}`);
        if (pending === undefined) continue;
        pending.written = driver.lastWritten;
        this.#around.trace.note(`  ring ${index}: ${pending.probe.name} is back, ${pending.written} bytes`);
      }
    } catch (error) {
      if (!(error instanceof GuestError)) throw error;
      failed(`ring ${index}: ${error.message}`);
    }
  }
}
