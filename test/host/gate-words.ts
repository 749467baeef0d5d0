/** What the threads of a gate's test share. */

/** Words. */
export const GateWord = {
  /** Which page is in use. */
  CURRENT: 0,
  RUNNING: 1,
  STOP: 2,
  /** Somebody has the gate for itself. */
  CHANGING: 3,
  /** What went wrong: a page seen that was withdrawn, a change seen by one who is inside. */
  STALE: 4,
  INTRUDED: 5,
  /** How often somebody had the gate for itself. */
  ALONE: 6,
  /** 1 if the page may be used. */
  PAGES: 16,
} as const;

export interface GateTest {
  readonly gateAddress: number;
  readonly sharedAddress: number;
  readonly threads: number;
  readonly thread: number;
}
