/** Time of a case: how long each wait may take, and when the case as a whole is over. */

export interface Clock {
  /** How long an answer may take. */
  readonly timeoutMs: number;
  /** Milliseconds the case has left; 0 or less if none. */
  readonly left: () => number;
  /** Waits until the descriptor can be read, at most so long. */
  readonly wait: (fd: number, timeoutMs: number) => void;
}

export const startClock = (
  timeoutMs: number,
  caseTimeoutMs: number,
  wait: (fd: number, timeoutMs: number) => void,
): Clock => {
  const endsAt = performance.now() + caseTimeoutMs;
  return { timeoutMs, wait, left: () => endsAt - performance.now() };
};
