/**
 * From a message to its answer: a table of handlers, one row per request we serve.
 *
 * A refused request changes nothing and never ends the session. It is answered whenever the front-end waits: with a
 * non-zero ack if it asked for one, and if the request is always answered, with what its front-end takes for an error.
 */
import { CodecError } from '../../protocol/struct.ts';
import {
  FrontendRequest,
  hasVersion,
  isReply,
  needsReply,
  ProtocolFeature,
  VHOST_USER_STATE_NOFD_MASK,
  VHOST_USER_VERSION,
} from '../../protocol/vhost-user.ts';
import { U64 } from '../../protocol/vhost-user-payloads.ts';
import { frontendRow, type FrontendRow } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import type { Handler } from './backend-handler.ts';
import { MEMORY_HANDLERS } from './backend-memory.ts';
import { NEGOTIATION_HANDLERS } from './backend-negotiation.ts';
import type { BackendState } from './backend-state.ts';
import { VRING_HANDLERS } from './backend-vrings.ts';
import type { Message } from './connection.ts';

const HANDLERS: ReadonlyMap<string, Handler> = new Map(
  [...NEGOTIATION_HANDLERS, ...MEMORY_HANDLERS, ...VRING_HANDLERS].map((handler) => [handler.name, handler]),
);

/** The ack of a refused request; any value but zero. */
const REFUSED = 1n;

/**
 * What tells a front-end that a request was refused which is always answered. Where the answer is a status, its error.
 * Anything else is answered with no octets, as GET_CONFIG's error is: a number would be taken for the value.
 */
const REFUSALS: { readonly [name: string]: bigint } = {
  SET_LOG_BASE: REFUSED,
  IOTLB_MSG: REFUSED,
  POSTCOPY_END: REFUSED,
  SET_DEVICE_STATE_FD: BigInt(VHOST_USER_STATE_NOFD_MASK) | REFUSED,
  CHECK_DEVICE_STATE: REFUSED,
};

/**
 * Serves one message. Descriptors that nobody took are left in `message.fds`.
 *
 * @returns payload of the answer; undefined if none is due
 * @throws {ProtocolError} BAD_HEADER: the stream can no longer be trusted, so close
 */
export function serveMessage(state: BackendState, message: Message): Uint8Array | undefined {
  const { request, flags, payload, fds } = message;
  const row = frontendRow(request);
  const name = row?.name ?? `request ${request}`;
  if (row === undefined && !hasVersion(flags))
    throw new ProtocolError('BAD_HEADER', `request ${request}, flags ${flags}: this is no header`);
  state.log.debug({ request: name, flags, size: payload.length, fds: fds.length }, 'vhost_user_read');
  if (isReply(flags)) {
    state.log.warn({ request: name, flags }, 'vhost_user_unexpected_reply');
    return undefined;
  }
  try {
    if (!hasVersion(flags))
      throw new ProtocolError('BAD_VALUE', `${name}: flags ${flags}, allowed version ${VHOST_USER_VERSION}`);
    if (row === undefined) throw new ProtocolError('UNKNOWN_REQUEST', `${name}: allowed 1..44`);
    const reply = handlerOf(state, row, fds.length).serve(state, payload, fds);
    return reply ?? ack(state, flags, 0n);
  } catch (error) {
    if (!(error instanceof ProtocolError || error instanceof CodecError)) throw error;
    state.log.warn({ request: name, code: error.code, reason: error.message }, 'vhost_user_refused');
    return refusal(state, row, flags);
  }
}

/** @throws {ProtocolError} NOT_SUPPORTED, BAD_STATE, BAD_FDS */
function handlerOf(state: BackendState, row: FrontendRow, fds: number): Handler {
  const handler = HANDLERS.get(row.name);
  if (handler === undefined) throw new ProtocolError('NOT_SUPPORTED', `${row.name} is not supported`);
  if (row.feature !== undefined && !state.hasProtocolFeature(row.feature))
    throw new ProtocolError(
      'BAD_STATE',
      `${row.name} before its protocol feature, bit ${row.feature}, was negotiated`,
    );
  const { min, max } = row.fds;
  if (fds < min || fds > max)
    throw new ProtocolError(
      'BAD_FDS',
      `${row.name}: ${fds} descriptors, allowed ${min === max ? min : `${min}..${max}`}`,
    );
  return handler;
}

function refusal(state: BackendState, row: FrontendRow | undefined, flags: number): Uint8Array | undefined {
  // Without LOG_SHMFD, SET_LOG_BASE is another message, and nobody waits for its answer.
  const isAnswered =
    row !== undefined &&
    row.reply !== 'ack' &&
    (row.name !== 'SET_LOG_BASE' || state.hasProtocolFeature(ProtocolFeature.LOG_SHMFD));
  if (!isAnswered) return ack(state, flags, REFUSED);
  const value = REFUSALS[row.name];
  return value === undefined ? new Uint8Array(0) : U64.encode(value);
}

const ack = (state: BackendState, flags: number, value: bigint): Uint8Array | undefined =>
  needsReply(flags) && state.acknowledges ? U64.encode(value) : undefined;

/** Names of the requests that are served; all others are refused. */
export const SERVED_REQUESTS: readonly string[] = Object.keys(FrontendRequest).filter((name) =>
  HANDLERS.has(name),
);
