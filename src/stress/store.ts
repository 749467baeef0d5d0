/** Where a stress run writes chunks to and reads them from: what it takes of a device. */
import type { GuestBuffer } from '../machine/guest-ram.ts';

/** What kind of device the back-end is; `any`: memory comes and goes, and nothing is written or read. */
export type StoreKind = 'fs' | 'blk' | 'any';

export interface StressStore {
  /** Fills the buffer with a version of the chunk and writes it. @throws {Violation} io */
  write(chunk: number, version: number, buffer: GuestBuffer): void;
  /** Begins to read a chunk. @returns waits for it, and compares with what was written last; 0: nothing yet */
  startRead(chunk: number, buffer: GuestBuffer): FinishRead;
  /** Says goodbye to the device. @param isLast what was made there is removed, if it can be */
  close(isLast: boolean): void;
}

/** @throws {Violation} io, lost */
export type FinishRead = (version: number) => void;

/** A device that is not asked to do anything. */
export const NO_STORE: StressStore = {
  write: () => {},
  startRead: () => () => {},
  close: () => {},
};
