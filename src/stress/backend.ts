/** The back-end of a stress run, as whoever starts it gives it. */
import type { OwnedFd } from '../host/owned-fd.ts';

/** One that runs. */
export interface StressBackend {
  /** A connection, which the caller owns. @throws {Error} if there is none to be had */
  connect(): OwnedFd;
  /** The process that was started; undefined if it was not started by us. */
  readonly pid?: number | undefined;
  /** Kills it without warning and starts it on the same directory. Absent: that cannot be done. */
  restart?(): Promise<void>;
  /** How it ended and what it said last, as far as that is known; empty if there is nothing to tell. */
  lastWords(): string;
  stop(): Promise<void>;
  /** Waits for a descriptor while a back-end in this thread works; see `FrontendOptions.wait`. */
  readonly wait?: (fd: number, timeoutMs: number) => void;
}

export interface BackendSource {
  /** For the report. */
  readonly name: string;
  /** Starts one, with nothing left of an earlier one; or finds the one that runs. @throws {Error} if there is none */
  start(): Promise<StressBackend>;
  /** Whether each `start` is a fresh one. */
  readonly isFresh: boolean;
}
