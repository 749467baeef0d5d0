/** Requests about one ring. */
import {
  VHOST_USER_F_PROTOCOL_FEATURES,
  VHOST_USER_VRING_IDX_MASK,
  VHOST_USER_VRING_NOFD_MASK,
} from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { hex } from '../units.ts';
import { acked, answered, type Handler } from './backend-handler.ts';
import type { BackendState } from './backend-state.ts';
import type { RingControl } from './ring-control.ts';

export const VRING_HANDLERS: readonly Handler[] = [
  acked(R.SET_VRING_NUM, (state, { index, num }) => state.vringAt(index).setNum(num)),
  acked(R.SET_VRING_ADDR, (state, addr) => state.vringAt(addr.index).setAddr(addr)),
  acked(R.SET_VRING_BASE, (state, { index, num }) => state.vringAt(index).setBase(num)),
  // The request's `num` is reserved; what old front-ends put there is ignored.
  answered(R.GET_VRING_BASE, (state, { index }) => ({ index, num: state.vringAt(index).stop() })),
  acked(R.SET_VRING_KICK, (state, value, fds) => {
    const { vring, fd } = ringAndFd(state, value, fds);
    vring.setKick(fd);
  }),
  acked(R.SET_VRING_CALL, (state, value, fds) => {
    const { vring, fd } = ringAndFd(state, value, fds);
    vring.setCall(fd);
  }),
  acked(R.SET_VRING_ERR, (state, value, fds) => {
    const { vring, fd } = ringAndFd(state, value, fds);
    vring.setErr(fd);
  }),
  acked(R.SET_VRING_ENABLE, (state, { index, num }) => {
    if (!state.hasFeature(VHOST_USER_F_PROTOCOL_FEATURES))
      throw new ProtocolError('BAD_STATE', 'SET_VRING_ENABLE without VHOST_USER_F_PROTOCOL_FEATURES');
    if (num > 1) throw new ProtocolError('BAD_VALUE', `SET_VRING_ENABLE ${num}, allowed 0 and 1`);
    state.vringAt(index).setEnabled(num === 1);
  }),
];

/** What KICK, CALL and ERR carry: a ring, and a descriptor exactly if the flag does not deny it. */
function ringAndFd(
  state: BackendState,
  value: bigint,
  fds: OwnedFd[],
): { readonly vring: RingControl; readonly fd: OwnedFd | undefined } {
  const known = VHOST_USER_VRING_IDX_MASK | VHOST_USER_VRING_NOFD_MASK;
  if (value > BigInt(known))
    throw new ProtocolError('BAD_VALUE', `${hex(value)}, allowed up to ${hex(known)}`);
  const vring = state.vringAt(Number(value) & VHOST_USER_VRING_IDX_MASK);
  const hasNone = (Number(value) & VHOST_USER_VRING_NOFD_MASK) !== 0;
  if (hasNone !== (fds.length === 0))
    throw new ProtocolError('BAD_FDS', `${fds.length} descriptors, allowed ${hasNone ? 0 : 1}`);
  return { vring, fd: fds.shift() };
}
