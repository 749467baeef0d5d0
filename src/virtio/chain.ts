/**
 * A descriptor chain as the device works on it: where its bytes are in this process, in the driver's order.
 *
 * A chain is filled by a virtqueue and reused for the next request, so nothing is allocated per request. It holds
 * addresses, not views: reading and writing through them is left to system calls and to `guest-memory`.
 */
import type { GuestErrorCode } from '../errors.ts';

/** Segments a chain has room for until a virtqueue asks for more: what preadv takes, and some for slot boundaries. */
const DEFAULT_CAPACITY = 1088;

/**
 * One request's buffers. A segment is contiguous in this process: a buffer that crosses from one memory slot into
 * the next becomes two segments. Readable segments come first, then the writable ones.
 */
export class Chain {
  /** Index of the first descriptor: the id under which the request is given back. */
  head = 0;
  /** Segments the device may read, from index 0. */
  readableCount = 0;
  /** Segments the device may write, from index `readableCount`. */
  writableCount = 0;
  readableBytes = 0;
  writableBytes = 0;
  /** Host address of each segment. */
  address: Float64Array;
  /** Bytes of each segment, never 0. */
  length: Float64Array;
  /** Guest physical address of each segment, for the dirty log. */
  gpa: Float64Array;
  /** Small requests that its ring can hold at once. */
  ringCapacity = 32_768;
  /** The first thing wrong with the chain; undefined when it may be served. */
  fault: GuestErrorCode | undefined = undefined;
  /** Guest physical address the fault is about; 0 when it is about none. */
  faultGpa = 0;

  constructor(capacity = DEFAULT_CAPACITY) {
    this.address = new Float64Array(capacity);
    this.length = new Float64Array(capacity);
    this.gpa = new Float64Array(capacity);
  }

  /** Segments there is room for. */
  get capacity(): number {
    return this.address.length;
  }

  /** Makes room for `capacity` segments. A set-up step: what the chain held is lost. */
  reserve(capacity: number): void {
    if (capacity <= this.capacity) return;
    this.address = new Float64Array(capacity);
    this.length = new Float64Array(capacity);
    this.gpa = new Float64Array(capacity);
    this.begin(0);
  }

  /** Empties the chain for the request that starts at descriptor `head`. */
  begin(head: number): void {
    this.head = head;
    this.readableCount = 0;
    this.writableCount = 0;
    this.readableBytes = 0;
    this.writableBytes = 0;
    this.fault = undefined;
    this.faultGpa = 0;
  }

  /** Appends a segment. The caller has checked that there is room, and that no writable one came before a readable one. */
  append(address: number, length: number, gpa: number, isWritable: boolean): void {
    const index = this.readableCount + this.writableCount;
    this.address[index] = address;
    this.length[index] = length;
    this.gpa[index] = gpa;
    if (isWritable) {
      this.writableCount += 1;
      this.writableBytes += length;
    } else {
      this.readableCount += 1;
      this.readableBytes += length;
    }
  }

  /** Notes what is wrong; the first fault stays. */
  blame(code: GuestErrorCode, gpa: number): void {
    if (this.fault !== undefined) return;
    this.fault = code;
    this.faultGpa = gpa;
  }
}

/** What marks guest pages written for live migration; `GuestMemory` does. */
interface DirtyLog {
  readonly isLogging: boolean;
  markDirty(gpa: number, size: number): void;
}

/**
 * Marks the first `written` bytes of the chain's writable segments dirty. To be called after they were written and
 * before the request is given back, whenever `isLogging`: a page logged too early may be sent before its last change.
 *
 * @see vhost-user spec § Migration
 */
export function logWritten(log: DirtyLog, chain: Chain, written: number): void {
  let left = written;
  const end = chain.readableCount + chain.writableCount;
  for (let i = chain.readableCount; i < end && left > 0; i += 1) {
    const size = Math.min(left, chain.length[i]!);
    log.markDirty(chain.gpa[i]!, size);
    left -= size;
  }
}
