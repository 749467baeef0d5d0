/** How a request is joined with what serves it: types that make handler, payload and reply fit. */
import type { AckedRow, AnsweredRow } from '../../protocol/vhost-user-requests.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import type { BackendState } from './backend-state.ts';

/** Serves one kind of request. */
export interface Handler {
  readonly name: string;
  /**
   * @param fds those it keeps are taken out; the caller closes the rest
   * @returns octets of the reply, if the request is always answered
   * @throws {ProtocolError} the request is refused and nothing has changed
   * @throws {CodecError} the payload is not the request's
   */
  readonly serve: (state: BackendState, octets: Uint8Array, fds: OwnedFd[]) => Uint8Array | undefined;
}

/** A request that is answered only if it asks for it. */
export const acked = <T>(
  row: AckedRow<T>,
  handle: (state: BackendState, value: T, fds: OwnedFd[]) => void,
): Handler => ({
  name: row.name,
  serve: (state, octets, fds) => {
    handle(state, row.payload.decode(octets), fds);
    return undefined;
  },
});

/** A request that is always answered. */
export const answered = <T, R>(
  row: AnsweredRow<T, R>,
  handle: (state: BackendState, value: T, fds: OwnedFd[]) => R,
): Handler => ({
  name: row.name,
  serve: (state, octets, fds) => row.reply.encode(handle(state, row.payload.decode(octets), fds)),
});
