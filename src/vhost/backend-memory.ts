/** Requests about guest memory: the table, in both dialects, and the log of dirty pages. */
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { ProtocolError } from '../errors.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import { acked, answered, type Handler } from './backend-handler.ts';

export const MEMORY_HANDLERS: readonly Handler[] = [
  acked(R.SET_MEM_TABLE, (state, { regions }, fds) => {
    state.settle();
    state.memory.replaceAll(regions, fds.splice(0));
    state.memoryChanged();
  }),
  answered(R.GET_MAX_MEM_SLOTS, (state) => BigInt(state.memory.maxSlots)),
  acked(R.ADD_MEM_REG, (state, { region }, fds) => {
    state.memory.addRegion(region, theFd(fds));
    state.memoryChanged();
  }),
  // A stray fd stays in `fds` and is closed: old front-ends send one.
  acked(R.REM_MEM_REG, (state, { region }) => {
    state.settle();
    state.memory.removeRegion(region);
    state.memoryChanged();
  }),
  // Any answer will do for QEMU; rust-vmm sends the request back.
  answered(R.SET_LOG_BASE, (state, log, fds) => {
    state.memory.setLog(theFd(fds), log.mmapOffset, log.mmapSize);
    state.logChanged();
    return log;
  }),
  acked(R.SET_LOG_FD, (state, _, fds) => state.setLogCall(theFd(fds))),
];

/** The one fd that came with the request: the table of requests has seen to it. */
function theFd(fds: OwnedFd[]): OwnedFd {
  const fd = fds.shift();
  if (fd === undefined) throw new ProtocolError('BAD_FDS', 'no descriptor, allowed 1');
  return fd;
}
