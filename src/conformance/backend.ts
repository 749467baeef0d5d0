/** The back-end under test, however it is reached. */
import type { OwnedFd } from '../host/owned-fd.ts';

export interface BackendUnderTest {
  /** What reports call it. */
  readonly name: string;
  /** Its process, if it is known. */
  readonly pid: number | undefined;
  /** Waits until the descriptor can be read: poll(2), unless the back-end lives in this thread. */
  readonly wait?: (fd: number, timeoutMs: number) => void;
  /** It can be ended and started anew. */
  readonly canRestart: boolean;
  /**
   * Connects; starts it before, if it has ended.
   *
   * @param isOneShot it ends with its connection, and is about to: waits for that
   * @returns owned by the caller
   * @throws {BackendGone} if it cannot be reached
   */
  connect(isOneShot?: boolean): OwnedFd;
  /** How it ended: `exit status 1`; undefined as long as it runs, or if nobody knows. */
  ending(): string | undefined;
  /** What it wrote to stderr last. */
  readonly messages: string;
  /** Ends it and starts it anew, if that is possible. @throws {BackendGone} */
  restart(): Promise<void>;
  close(): Promise<void>;
}

/** The back-end cannot be reached. */
export class BackendGone extends Error {
  override readonly name = 'BackendGone';
}

/** What a back-end says of itself, asked before the first case. */
export interface BackendFacts {
  readonly features: bigint;
  readonly protocolFeatures: bigint;
  /** Rings, if it says; otherwise what its device has at least. */
  readonly queues: number;
  /** Memory slots: what GET_MAX_MEM_SLOTS said, or 8 without CONFIGURE_MEM_SLOTS. */
  readonly memSlots: number;
  /** It serves another connection when one has ended. */
  readonly reconnects: boolean;
}
