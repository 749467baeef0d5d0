/** Time of a case: how long each wait may take, and when the case as a whole is over. */
import { failed } from './verdict.ts';

export interface Clock {
  /** How long an answer may take. */
  readonly timeoutMs: number;
  /** Milliseconds the case has left; 0 or less if none. */
  readonly left: () => number;
  /** @throws {CaseEnd} `fail` if the case's time is over */
  readonly check: () => void;
  /** Waits until the descriptor can be read, at most so long. */
  readonly wait: (fd: number, timeoutMs: number) => void;
}

export const startClock = (
  timeoutMs: number,
  caseTimeoutMs: number,
  wait: (fd: number, timeoutMs: number) => void,
): Clock => {
  const endsAt = performance.now() + caseTimeoutMs;
  const left = (): number => endsAt - performance.now();
  const check = (): void => {
    if (left() <= 0) failed(`the case is not over after ${caseTimeoutMs} ms`);
  };
  return { timeoutMs, wait, left, check };
};
