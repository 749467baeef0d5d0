/** Requests of the virtio-mem driver, in and out: bytes of the queue to calls of the device. */
import {
  VirtioMemConfig,
  VirtioMemReq,
  VirtioMemRequestType,
  VirtioMemResp,
  VirtioMemResponseType,
} from '../../protocol/virtio-mem.ts';
import { GuestError } from '../errors.ts';
import type { VirtioMem } from './virtio-mem.ts';

/** Response type and, for STATE, the state. */
interface Response {
  readonly type: number;
  readonly state: number;
}

/** One row for each request type: what the device answers. */
const REQUESTS: {
  readonly [type: number]: (device: VirtioMem, address: number, blocks: number) => Response;
} = {
  [VirtioMemRequestType.PLUG]: (device, address, blocks) => answer(device.plug(address, blocks)),
  [VirtioMemRequestType.UNPLUG]: (device, address, blocks) => answer(device.unplug(address, blocks)),
  [VirtioMemRequestType.UNPLUG_ALL]: (device) => answer(device.unplugAll()),
  [VirtioMemRequestType.STATE]: (device, address, blocks) => {
    const state = device.stateOf(address, blocks);
    return state < 0 ? answer(VirtioMemResponseType.ERROR) : { type: VirtioMemResponseType.ACK, state };
  },
};

const answer = (type: number): Response => ({ type, state: 0 });

/**
 * Serves one request.
 *
 * @param request  a copy of what the guest wrote: it may change its own
 * @param response where the answer goes
 * @returns bytes written
 * @throws {GuestError} BAD_REQUEST for a request or a response that is too short, and for an unknown type: the device is broken
 *   until it is reset
 */
export function serveVirtioMem(device: VirtioMem, request: Uint8Array, response: Uint8Array): number {
  if (request.byteLength < VirtioMemReq.size)
    throw bad(`request of ${request.byteLength} bytes, ${VirtioMemReq.size} needed`);
  if (response.byteLength < VirtioMemResp.size)
    throw bad(`${response.byteLength} bytes for the response, ${VirtioMemResp.size} needed`);
  const { type, addr, nbBlocks } = VirtioMemReq.decode(request.subarray(0, VirtioMemReq.size));
  const serve = REQUESTS[type];
  if (serve === undefined) throw bad(`unknown request type ${type}`);
  // Addresses beyond 2^53 are rounded here; they are outside of any device.
  const { type: answered, state } = serve(device, Number(addr), nbBlocks);
  response.set(VirtioMemResp.encode({ type: answered, state }));
  return VirtioMemResp.size;
}

/** The configuration space as the driver reads it. */
export const configSpaceOf = (device: VirtioMem): Uint8Array => VirtioMemConfig.encode(device.config());

const bad = (text: string): GuestError =>
  new GuestError('BAD_REQUEST', `virtio-mem protocol violation: ${text}`);
