/** How a case ends: by returning, which is `pass`, or by one of these. */

export const VERDICTS = ['pass', 'fail', 'dead', 'skip'] as const;
/** `dead`: the back-end ended or went silent. */
export type Verdict = (typeof VERDICTS)[number];

/** Thrown by a case. */
export class CaseEnd extends Error {
  override readonly name = 'CaseEnd';
  readonly verdict: Exclude<Verdict, 'pass'> | 'hung up';

  /** @param seen what the back-end did, in words */
  constructor(verdict: CaseEnd['verdict'], seen: string) {
    super(seen);
    this.verdict = verdict;
  }
}

/** The back-end did something else than it should. @throws {CaseEnd} always */
export function failed(seen: string): never {
  throw new CaseEnd('fail', seen);
}

/** As `failed`, unless the claim holds. */
export function check(claim: boolean, seen: string): asserts claim {
  if (!claim) failed(seen);
}

/** The back-end does not answer any more. @throws {CaseEnd} always */
export function died(seen: string): never {
  throw new CaseEnd('dead', seen);
}

/**
 * The back-end closed the connection where it should not. Whether it is `dead` or failed is seen from its process.
 * @throws {CaseEnd} always
 */
export function hungUp(seen: string): never {
  throw new CaseEnd('hung up', seen);
}

/** What is needed turned out not to be there. @throws {CaseEnd} always */
export function skipped(reason: string): never {
  throw new CaseEnd('skip', reason);
}
