/**
 * What is mounted, in memory that all servers of a device share: each serves queues of its own on a thread of its own,
 * and an INIT or DESTROY may come on any queue.
 *
 * It is written while no other server is at work (`MountGate`), so nobody reads half of it.
 */
import type { Negotiated } from './file-system.ts';
import type { Scratch } from './scratch.ts';

/** Words. */
const GENERATION = 0;
const IS_MOUNTED = 1;
const MINOR = 2;
const FLAGS_LOW = 3;
const FLAGS_HIGH = 4;
const MAX_WRITE = 5;
const MAX_READAHEAD = 6;
/** INTERRUPTs so far, and where the unique ids of the last ones are: low and high word of each. */
const INTERRUPTS = 7;
const UNIQUES = 8;
const MAX_INTERRUPTS = 256;

/** Bytes of zeroed memory a mount state takes. */
export const MOUNT_STATE_SIZE = 4 * (UNIQUES + 2 * MAX_INTERRUPTS);

/** Keeps the other servers of a device out while the mount changes. `TurnGate` of `host` does. */
export interface MountGate {
  /** @returns false, and nothing was done, if another server is at it */
  exclusively(change: () => void): boolean;
  /** Waits for that other server. Not to be called while serving a chain. */
  waitForHolder(): void;
}

export class MountState {
  readonly #words: Uint32Array;

  /** @param memory `MOUNT_STATE_SIZE` bytes, which every server of the device is given */
  constructor(memory: Pick<Scratch, 'u32'>) {
    this.#words = memory.u32;
  }

  /** Counts the changes. A plain load will do: the gate orders it, and a call of `Atomics` would be in every request. */
  get generation(): number {
    return this.#words[GENERATION]!;
  }

  get negotiated(): Negotiated | undefined {
    const words = this.#words;
    if (words[IS_MOUNTED] === 0) return undefined;
    return {
      minor: words[MINOR]!,
      flags: BigInt(words[FLAGS_LOW]!) | (BigInt(words[FLAGS_HIGH]!) << 32n),
      maxWrite: words[MAX_WRITE]!,
      maxReadahead: words[MAX_READAHEAD]!,
    };
  }

  /** Counts the INTERRUPTs. */
  get interrupts(): number {
    return Atomics.load(this.#words, INTERRUPTS);
  }

  /** INTERRUPT has come, on the hiprio queue: one server at a time calls this. */
  interrupt(uniqueLo: number, uniqueHi: number): void {
    const at = UNIQUES + 2 * (this.interrupts % MAX_INTERRUPTS);
    this.#words[at] = uniqueLo;
    this.#words[at + 1] = uniqueHi;
    Atomics.add(this.#words, INTERRUPTS, 1);
  }

  /** Visits the INTERRUPTs that came after the first `seen`; of very many only the last. @returns how many came so far */
  interruptsAfter(seen: number, visit: (uniqueLo: number, uniqueHi: number) => void): number {
    const count = this.interrupts;
    const news = Math.min((count - seen) >>> 0, MAX_INTERRUPTS);
    for (let i = news; i > 0; i -= 1) {
      const at = UNIQUES + 2 * (((count - i) >>> 0) % MAX_INTERRUPTS);
      visit(this.#words[at]!, this.#words[at + 1]!);
    }
    return count;
  }

  /** @returns the new generation */
  change(negotiated: Negotiated | undefined): number {
    const words = this.#words;
    words[IS_MOUNTED] = negotiated === undefined ? 0 : 1;
    if (negotiated !== undefined) {
      words[MINOR] = negotiated.minor;
      words[FLAGS_LOW] = Number(negotiated.flags & 0xffff_ffffn);
      words[FLAGS_HIGH] = Number(negotiated.flags >> 32n);
      words[MAX_WRITE] = negotiated.maxWrite;
      words[MAX_READAHEAD] = negotiated.maxReadahead;
    }
    return Atomics.add(words, GENERATION, 1) + 1;
  }
}
