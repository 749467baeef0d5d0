/**
 * The device side of a split virtqueue: takes chains out of the avail ring, puts results into the used ring.
 *
 * The driver is hostile and writes while we read. So every field is loaded once into a local, and only the local is
 * checked and used. A chain that breaks the rules is given back with what `reject` wrote, usually nothing, and the
 * ring goes on; only indices that cannot be trusted stop the ring. This class knows no file descriptor: the vring
 * watches kicks and signals calls.
 *
 * Ordering. Plain typed-array accesses are plain loads and stores, so on arm64 they may pass each other. `Atomics`
 * on any integer typed array is sequentially consistent, also on memory that is not a SharedArrayBuffer: V8 emits
 * ldar/stlr on arm64, mov and xchg on x86-64. That gives acquire on a load of an index, release on its store, and the
 * full barrier between storing our index and loading the other side's, which the event_idx handshake needs. Measured
 * on Node 20: 4 ns a load, 8 ns a store. Each use below says which of these it relies on.
 */
import {
  VRING_AVAIL_F_NO_INTERRUPT,
  VRING_MAX_NUM,
  VRING_USED_F_NO_NOTIFY,
  vringAvailSize,
  vringDescSize,
  vringNeedEvent,
  vringUsedSize,
} from '../../protocol/virtio-ring.ts';
import { GuestError, ProtocolError } from '../errors.ts';
import { hex } from '../units.ts';
import type { Chain } from './chain.ts';
import { DescriptorWalk } from './descriptor-walk.ts';
import type { TableMemory } from './indirect.ts';
import * as ring from './split-ring.ts';

/** Descriptors a small request takes when it lies in the table itself. */
const DIRECT_DESCRIPTORS = 4;

/** What a virtqueue needs of guest memory; `GuestMemory` has it. */
export interface QueueMemory extends TableMemory {
  /** The `size` bytes at host `address`, which stay safe to access whatever happens to the slot. */
  ringView(address: number, size: number): DataView<ArrayBuffer>;
  readonly isLogging: boolean;
  markDirty(gpa: number, size: number): void;
}

export interface VirtqueueSetup {
  /** Entries: a power of two, at most 32768. */
  readonly num: number;
  /** Host addresses of the three areas, aligned to 16, 2 and 4 bytes. */
  readonly descAddress: number;
  readonly availAddress: number;
  readonly usedAddress: number;
  /** VIRTIO_RING_F_EVENT_IDX was negotiated. */
  readonly eventIdx: boolean;
  /** VIRTIO_RING_F_INDIRECT_DESC was negotiated. */
  readonly indirect: boolean;
  /** Guest physical address of the used area, if its changes go to the dirty log. */
  readonly usedGpa?: number | undefined;
  /**
   * Answers a chain that must not be served. The chain has its `fault`, and those segments that are sound.
   * @returns bytes written into it; without this function nothing is written
   */
  readonly reject?: ((chain: Chain) => number) | undefined;
}

export class Virtqueue {
  readonly num: number;
  /** Segments a chain given to `pop` needs room for. */
  readonly maxSegments: number;
  /** Chains given back because they broke the rules, since this object was made. */
  rejected = 0;

  readonly #memory: QueueMemory;
  readonly #walk: DescriptorWalk;
  readonly #capacity: number;
  readonly #reject: ((chain: Chain) => number) | undefined;
  readonly #mask: number;
  readonly #hasEventIdx: boolean;
  readonly #avail: Uint16Array;
  readonly #used: Uint32Array;
  /** The used area again, in the units of its flags, index and event. */
  readonly #used16: Uint16Array;
  readonly #usedEvent: number;
  readonly #availEvent: number;
  #usedGpa: number;

  /** Next avail entry to take. */
  #nextAvail: number;
  /** `avail.idx` as last loaded: entries before it are visible to us. */
  #availIndex: number;
  /** Next used element to write; elements before it are written, not necessarily published. */
  #nextUsed: number;
  /** `used.idx` as last stored. */
  #publishedUsed: number;
  /** `used.idx` when the driver was last considered for a call; −1 before the first time. */
  #calledUsed = -1;

  /**
   * @param base the avail index to start from: SET_VRING_BASE
   * @throws {ProtocolError} BAD_VALUE if the size is not one the specification allows, or an area is misaligned
   */
  constructor(memory: QueueMemory, setup: VirtqueueSetup, base: number) {
    checkSetup(setup);
    const { num } = setup;
    this.num = num;
    this.#memory = memory;
    this.#reject = setup.reject;
    this.#mask = num - 1;
    this.#hasEventIdx = setup.eventIdx;
    const table = wordsOf(memory.ringView(setup.descAddress, vringDescSize(num)), vringDescSize(num) / 4);
    this.#walk = new DescriptorWalk(memory, table, setup.indirect);
    this.#capacity = setup.indirect ? setup.num : setup.num / DIRECT_DESCRIPTORS;
    this.maxSegments = this.#walk.maxSegments;
    this.#avail = halvesOf(memory.ringView(setup.availAddress, vringAvailSize(num)));
    // The area is not whole words when `avail_event` is there: the words stop before it.
    const used = memory.ringView(setup.usedAddress, vringUsedSize(num));
    this.#used = wordsOf(used, ring.USED_RING + ring.USED_WORDS * num);
    this.#used16 = halvesOf(used);
    this.#usedEvent = ring.usedEventElement(num);
    this.#availEvent = ring.availEventElement(num);
    this.#usedGpa = setup.usedGpa ?? -1;
    this.#nextAvail = base & 0xffff;
    this.#availIndex = this.#nextAvail;
    this.#nextUsed = this.#used16[ring.RING_INDEX]!;
    this.#publishedUsed = this.#nextUsed;
  }

  /** Where to go on after a stop: GET_VRING_BASE. */
  get nextAvail(): number {
    return this.#nextAvail;
  }

  /** The used index as the driver sees it. */
  get usedIndex(): number {
    return this.#publishedUsed;
  }

  /** Used elements written but not published. */
  get unpublished(): number {
    return (this.#nextUsed - this.#publishedUsed) & 0xffff;
  }

  /** Starts or stops logging changes of the used area: SET_VRING_ADDR on a running ring. */
  logUsedAt(usedGpa: number | undefined): void {
    this.#usedGpa = usedGpa ?? -1;
  }

  /**
   * Takes the next chain that may be served. Chains that may not are given back on the way, so the caller publishes
   * whatever the answer.
   *
   * @param chain has room for `maxSegments`; filled when the answer is true
   * @returns false if there is nothing to serve for now
   * @throws {GuestError} BAD_INDEX if the avail index jumped or a head lies outside the ring: stop the ring
   */
  pop(chain: Chain): boolean {
    // Bounded, so that a driver that makes bad chains as fast as we refuse them does not hold the thread.
    for (let attempt = 0; attempt < this.num; attempt += 1) {
      if (this.#nextAvail === this.#availIndex && !this.#hasArrivals()) return false;
      const head = this.#avail[ring.AVAIL_RING + (this.#nextAvail & this.#mask)]!;
      if (head >= this.num) throw new GuestError('BAD_INDEX', `avail entry ${head}, ring has ${this.num}`);
      this.#nextAvail = (this.#nextAvail + 1) & 0xffff;
      chain.begin(head);
      chain.ringCapacity = this.#capacity;
      this.#walk.follow(chain, head);
      if (chain.fault === undefined) return true;
      this.rejected += 1;
      this.pushUsed(head, this.#reject === undefined ? 0 : this.#reject(chain));
    }
    return false;
  }

  /** Whether the driver has made chains available that were not taken: a look, for who polls. */
  get hasArrivals(): boolean {
    return Atomics.load(this.#avail, ring.RING_INDEX) !== this.#nextAvail;
  }

  /** Chains made available that were not taken, as far as is known: any number, if the driver lies. */
  get arrivals(): number {
    return (Atomics.load(this.#avail, ring.RING_INDEX) - this.#nextAvail) & 0xffff;
  }

  /**
   * Gives a request back. The driver sees it at the next `publish`.
   *
   * @param written bytes written into its writable segments, from the first on
   */
  pushUsed(head: number, written: number): void {
    const slot = this.#nextUsed & this.#mask;
    const word = ring.USED_RING + ring.USED_WORDS * slot;
    // Plain stores: `publish` orders them before the index.
    this.#used[word] = head;
    this.#used[word + 1] = written;
    this.#nextUsed = (this.#nextUsed + 1) & 0xffff;
    if (this.#usedGpa >= 0 && this.#memory.isLogging) this.#memory.markDirty(this.#usedGpa + 4 * word, 8);
  }

  /** Lets the driver see what was pushed. */
  publish(): void {
    if (this.#publishedUsed === this.#nextUsed) return;
    this.#publishedUsed = this.#nextUsed;
    // Release: the elements, and the data the caller wrote, are visible before the index that covers them. And a full
    // barrier towards the load of `used_event` or flags in `needsCall`: either we see the driver's wish to be called,
    // or the driver, which stores its wish first and looks at the index after, sees this index.
    Atomics.store(this.#used16, ring.RING_INDEX, this.#nextUsed);
    if (this.#usedGpa >= 0 && this.#memory.isLogging) this.#memory.markDirty(this.#usedGpa, 4);
  }

  /**
   * Whether the driver wants a call for what was published since this was last asked.
   *
   * @see virtio spec § Used Buffer Notification Suppression
   */
  needsCall(): boolean {
    const before = this.#calledUsed;
    const now = this.#publishedUsed;
    if (before === now) return false;
    if (!this.#hasEventIdx) {
      this.#calledUsed = now;
      // After the store of the index in `publish`, see there.
      return (Atomics.load(this.#avail, ring.RING_FLAGS) & VRING_AVAIL_F_NO_INTERRUPT) === 0;
    }
    this.#calledUsed = now;
    const event = Atomics.load(this.#avail, this.#usedEvent);
    // The first time we do not know what an earlier owner of the ring has told the driver: a call too many is harmless.
    return before < 0 || vringNeedEvent(event, now, before);
  }

  /**
   * Asks the driver to kick when it adds chains.
   *
   * @returns true if some arrived before it could see that: take them, no kick will tell
   */
  enableNotifications(): boolean {
    // Full barrier between this store and the load of `avail.idx` below: either the driver sees that we want a kick,
    // or we see its new index. Without it both may miss, and the ring sleeps for ever.
    if (this.#hasEventIdx) {
      Atomics.store(this.#used16, this.#availEvent, this.#nextAvail);
      if (this.#usedGpa >= 0 && this.#memory.isLogging)
        this.#memory.markDirty(this.#usedGpa + 2 * this.#availEvent, 2);
    } else {
      this.#setFlags(0);
    }
    return Atomics.load(this.#avail, ring.RING_INDEX) !== this.#nextAvail;
  }

  /** Tells the driver that kicks are not needed for now. A hint: it may kick all the same. */
  disableNotifications(): void {
    // With event_idx nothing is needed: `avail_event` stays behind, and only passing it makes the driver kick.
    if (!this.#hasEventIdx) this.#setFlags(VRING_USED_F_NO_NOTIFY);
  }

  #setFlags(flags: number): void {
    Atomics.store(this.#used16, ring.RING_FLAGS, flags);
    if (this.#usedGpa >= 0 && this.#memory.isLogging) this.#memory.markDirty(this.#usedGpa, 2);
  }

  /** Looks at `avail.idx` again. */
  #hasArrivals(): boolean {
    // Acquire: the ring entries and descriptors it covers are loaded after it.
    const index = Atomics.load(this.#avail, ring.RING_INDEX);
    const arrived = (index - this.#nextAvail) & 0xffff;
    if (arrived > this.num)
      throw new GuestError(
        'BAD_INDEX',
        `avail index ${index}, next ${this.#nextAvail}, ring has ${this.num}`,
      );
    this.#availIndex = index;
    return arrived !== 0;
  }
}

const wordsOf = ({ buffer, byteOffset }: DataView<ArrayBuffer>, count: number): Uint32Array =>
  new Uint32Array(buffer, byteOffset, count);

const halvesOf = ({ buffer, byteOffset, byteLength }: DataView<ArrayBuffer>): Uint16Array =>
  new Uint16Array(buffer, byteOffset, byteLength / 2);

function checkSetup({ num, descAddress, availAddress, usedAddress }: VirtqueueSetup): void {
  if (!Number.isInteger(num) || num < 1 || num > VRING_MAX_NUM || (num & (num - 1)) !== 0)
    throw new ProtocolError('BAD_VALUE', `ring size ${num}, allowed a power of two up to ${VRING_MAX_NUM}`);
  if (descAddress % 16 !== 0 || availAddress % 2 !== 0 || usedAddress % 4 !== 0)
    throw new ProtocolError(
      'BAD_VALUE',
      `ring areas at ${hex(descAddress)}, ${hex(availAddress)}, ${hex(usedAddress)}, aligned to 16, 2 and 4 is allowed`,
    );
}
