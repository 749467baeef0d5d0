/** What a device front-end is made of, and what its driver decides. */
import type { ProtocolError } from '../errors.ts';
import type { DialectName } from './frontend-dialect.ts';
import type { BackendRequestHandlers } from './frontend-requests.ts';
import type { SharedQueue, VringNotifiers } from './frontend-vring.ts';

export interface DeviceFrontendOptions {
  readonly name: string;
  /** Per queue; how many there are is how many queues the device has. */
  readonly notifiers: readonly VringNotifiers[];
  /** Whether the back-end may send requests. Default: if there is somebody to serve them. `backendChannel` says when to. */
  readonly hasBackendChannel?: boolean;
  /** Who serves them; what nobody serves is refused. */
  readonly backendRequests?: BackendRequestHandlers;
  /** In which order things are said. Default `qemu`. */
  readonly dialect?: DialectName;
  /** `qemu` only: a memory change that failed, and went on as if nothing were. */
  readonly onMemoryError?: (error: ProtocolError) => void;
}

/** What a guest's driver has decided. */
export interface DriverSetup {
  /** The features it accepts. */
  readonly features: bigint;
  readonly queues: readonly SharedQueue[];
  /** For this start: the next available index of each queue, of a machine that came by migration. Default: where they were stopped, 0 after a reset. */
  readonly bases?: readonly number[];
  /** Where guest memory is in the user address space of the front-end; by default where the regions shared with the back-end are. */
  readonly userAddress?: (guestAddress: bigint, size: number) => bigint | undefined;
}
