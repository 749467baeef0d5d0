/**
 * The error classes. Who broke the rules decides the class; `code` is permanent, the text may change.
 *
 * Ordinary refusals of the kernel are not here: they are values (−errno).
 */

export { errnoName } from '../protocol/errno.ts';

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
  | 'UNKNOWN_REQUEST' // a number the specification does not have
  | 'NOT_SUPPORTED' // known, but not implemented or not negotiated
  | 'BAD_STATE' // right message at the wrong time
  | 'SLOT_LIMIT' // one memory region more than --max-mem-slots
  | 'REGION_OVERLAP' // shares guest physical addresses with a region of the table
  | 'REGION_INVALID' // size 0, wrap-around, beyond the fd, misaligned
  | 'REGION_UNKNOWN' // no region matches the one to remove
  | 'UNMAPPED' // an address lies in no region
  | 'REFUSED' // the back-end answered that it failed
  | 'TIMEOUT' // the peer did not answer in time
  | 'CLOSED' // the peer has gone
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

export type MemoryErrorCode =
  | 'ALREADY_MAPPED' // a region has one container at a time
  | 'NOT_MAPPED' // the region is not in the container it should be removed from
  | 'ALIAS_CYCLE' // a region would show itself without end
  | 'BAD_SIZE' // outside 0 … 2^64
  | 'BAD_ADDRESS' // outside 0 … 2^64 − 1
  | 'SIZE_MISMATCH' // a RAM region larger than its RAM block
  | 'WRONG_KIND' // the kind of region cannot do that
  | 'DISCARD_MANAGER' // set twice, or changed while the region is mapped
  | 'UNBALANCED' // commit without begin
  | 'BUSY' // the topology was edited by a listener while it is told about an edit
  | 'BAD_STATE' // listener, address space or dirty log used in the wrong state
  | 'BAD_TREE'; // a text is not what `info mtree` prints

/** The memory topology was asked for what cannot be. Nothing has changed. */
export class MemoryError extends CodedError<MemoryErrorCode> {
  override readonly name = 'MemoryError';
}

export type MemoryDeviceErrorCode =
  | 'NOT_PREPARED' // the machine has no space for memory devices (maxmem)
  | 'NO_SPACE' // more memory than maxmem allows
  | 'FRAGMENTED' // enough space, but no gap is large enough
  | 'ADDRESS' // misaligned, outside the window, or in conflict with another device
  | 'SIZE' // not a multiple of what it must be a multiple of, or too large or too small
  | 'DIMM_SLOT' // the requested module slot is taken or does not exist, or there is none left
  | 'HYPERVISOR_SLOTS' // the hypervisor has too few memslots left
  | 'VHOST_SLOTS' // a vhost back-end has too few memslots left
  | 'BACKEND_LIMIT' // a vhost back-end has fewer memslots than are used and reserved
  | 'BACKEND_RESTRICTS' // a small vhost back-end comes after a device decided with more memslots in mind
  | 'LIMIT_SHRANK' // a vhost back-end came back with a lower limit
  | 'DUPLICATE_ID' // another device has this id
  | 'BACKEND_BUSY' // the memory backend belongs to another device
  | 'BAD_PROPERTY' // a property of a device has a value it cannot have
  | 'NOT_PLUGGED' // the device is not plugged, or not in the state that this takes
  | 'STILL_IN_USE' // the device cannot be unplugged as long as the guest has memory of it
  | 'DISCARD_DISABLED'; // somebody needs RAM that is never discarded, and somebody else discards

/** A memory device or a vhost back-end cannot be plugged, changed or unplugged. Nothing has changed. */
export class MemoryDeviceError extends CodedError<MemoryDeviceErrorCode> {
  override readonly name = 'MemoryDeviceError';
}
