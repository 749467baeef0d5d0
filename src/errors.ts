/**
 * The error classes. Who broke the rules decides the class; `code` is permanent, the text may change.
 *
 * Ordinary refusals of the kernel are not here: they are values (−errno).
 */

class CodedError<Code extends string> extends Error {
  readonly code: Code;
  constructor(code: Code, message: string, options?: ErrorOptions) {
    super(message, options);
    this.code = code;
  }
}

export type ProtocolErrorCode =
  | 'BAD_HEADER' // framing cannot be trusted any more: version, flags, size
  | 'BAD_SIZE' // payload size is not the request's
  | 'BAD_VALUE' // a field is outside what the spec allows
  | 'BAD_FDS' // missing or surplus file descriptors
  | 'UNKNOWN_REQUEST'
  | 'NOT_SUPPORTED' // known, but not implemented or not negotiated
  | 'BAD_STATE' // right message at the wrong time
  | 'SLOT_LIMIT' // one memory region more than --max-mem-slots
  | 'REGION_OVERLAP'
  | 'REGION_INVALID' // size 0, wrap-around, beyond the fd, misaligned
  | 'REGION_UNKNOWN' // no region matches the one to remove
  | 'UNMAPPED' // an address lies in no region
  | 'SYSTEM'; // the host kernel refused what the request needs

/** The vhost-user peer broke the protocol or asked for what cannot be. */
export class ProtocolError extends CodedError<ProtocolErrorCode> {
  override readonly name = 'ProtocolError';
}

export type GuestErrorCode =
  | 'UNMAPPED' // an address outside the memory table
  | 'BAD_INDEX' // descriptor index outside the ring, or avail index jumped
  | 'LOOP' // more descriptors than the ring has entries
  | 'BAD_DESCRIPTOR' // zero length, wrap-around, wrong flags
  | 'BAD_INDIRECT' // nested, misaligned or misplaced indirect table
  | 'BAD_ORDER' // readable after writable
  | 'TOO_LONG' // more bytes or segments than a chain may have
  | 'BAD_REQUEST'; // the device's request header is short or lies

/** The guest driver broke the rules of its ring or device. */
export class GuestError extends CodedError<GuestErrorCode> {
  override readonly name = 'GuestError';
}

/** The operator asked for what cannot be: option, path, permission. */
export class ConfigError extends CodedError<'BAD_OPTION' | 'NOT_SUPPORTED' | 'SYSTEM'> {
  override readonly name = 'ConfigError';
}
