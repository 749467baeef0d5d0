/** What a back-end must not do, and how it is told. */
import { ProtocolError } from '../errors.ts';

export type ViolationKind =
  /** A change of memory within the limit was refused. */
  | 'refused'
  /** It hung up, ended, or did not answer in time. */
  | 'died'
  /** It took one region more than it says it has room for. */
  | 'limit'
  /** I/O in memory that is there failed. */
  | 'io'
  /** A read did not bring what was written last. */
  | 'lost'
  /** Mappings or descriptors were left over. */
  | 'leak'
  /** It could not be started, or connected to, again. */
  | 'restart';

/** Thrown where it is noticed; caught where the operation is known. */
export class Violation extends Error {
  override readonly name = 'Violation';
  readonly kind: ViolationKind;

  constructor(kind: ViolationKind, message: string, options?: ErrorOptions) {
    super(message, options);
    this.kind = kind;
  }

  /** After these the connection still works, and the run goes on. */
  get isHarmless(): boolean {
    return this.kind === 'limit';
  }
}

/** What an error of the machine means for the back-end. @throws what is no fault of the back-end */
export function asViolation(error: unknown, isGone: boolean, doing: string): Violation {
  if (error instanceof Violation) return error;
  if (!(error instanceof ProtocolError)) throw error;
  const text = `${doing}: ${error.message}`;
  if (isGone || error.code === 'TIMEOUT' || error.code === 'CLOSED' || error.code === 'SYSTEM')
    return new Violation('died', text, { cause: error });
  return new Violation(error.code === 'REFUSED' ? 'refused' : 'io', text, { cause: error });
}
