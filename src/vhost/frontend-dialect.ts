/**
 * The order in which a front-end says what it has to say: that of QEMU, or that of cloud-hypervisor. Back-ends have to take both.
 *
 *                        QEMU                                           cloud-hypervisor
 *     connect            features, protocol features, limit,            owner, features, protocol features
 *                        back-end channel, owner; call and err
 *     start: memory      each region by itself, if slots are offered    one table, even if slots are offered
 *     start: queues      num, base, address, kick of one after          num of all; then address, base, call, kick of one
 *                        the other; calls first and last                after the other
 *     start: last        enable                                         enable, back-end channel
 *     acknowledged       memory, enable, channel                        everything
 *     memory added       ADD_MEM_REG, or the table again                the same
 */
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { VirtioStatus } from '../../protocol/virtio.ts';
import type { Attempts } from './attempts.ts';
import type { VhostUserFrontend } from './frontend.ts';
import type { FrontendMemoryTable } from './frontend-memory-table.ts';
import {
  negotiate,
  negotiateUnlimited,
  type Negotiated,
  type NegotiationOptions,
} from './frontend-negotiation.ts';
import type { FrontendVring, SharedQueue } from './frontend-vring.ts';

export type DialectName = 'qemu' | 'cloud-hypervisor';

/** What a device front-end has to say something about. */
export interface Session {
  readonly frontend: VhostUserFrontend;
  readonly vrings: readonly FrontendVring[];
  readonly table: FrontendMemoryTable;
  /** Without protocol features a ring is enabled as soon as it is started. vhost-user spec § Ring states. */
  readonly canEnable: boolean;
  /** The back-end's end of the channel for its requests, if there is one. */
  readonly backendChannel: number | undefined;
}

export interface StartOptions {
  readonly queues: readonly SharedQueue[];
  readonly userAddress: (guestAddress: bigint, size: number) => bigint | undefined;
  readonly isLogged: boolean;
  readonly sendFeatures: () => void;
  /** Before queues are set up. */
  readonly shareInflight: () => void;
  /** When they are. */
  readonly shareLog: () => void;
}

export interface Dialect {
  /** Whether the channel for the back-end's requests is told by `start`; else by `negotiate`. */
  readonly sendsChannelAtStart: boolean;
  readonly negotiate: (frontend: VhostUserFrontend, options: NegotiationOptions) => Negotiated;
  /** After SET_FEATURES. */
  readonly featuresSent: (frontend: VhostUserFrontend) => void;
  /** After the negotiation, before there is a driver. */
  readonly connected: (session: Session) => void;
  /** @throws {ProtocolError} queues that were begun say so */
  readonly start: (session: Session, options: StartOptions) => void;
  /** Queues are stopped: tells the back-end whom to call now. */
  readonly stopped: (session: Session, attempts: Attempts) => void;
}

const QEMU: Dialect = {
  sendsChannelAtStart: false,
  negotiate,
  featuresSent: (frontend) => {
    if (!frontend.hasProtocolFeature(ProtocolFeature.STATUS)) return;
    const status = frontend.getStatus();
    if ((status & VirtioStatus.FEATURES_OK) === 0) frontend.setStatus(status | VirtioStatus.FEATURES_OK);
  },
  connected: ({ vrings }) => {
    for (const vring of vrings) vring.connect();
  },
  start: ({ frontend, vrings, table, canEnable }, options) => {
    const { queues, userAddress, isLogged, sendFeatures, shareInflight, shareLog } = options;
    const callDriver = (): void => {
      vrings.forEach((vring, index) => vring.unmask(queues[index]!));
    };
    callDriver();
    sendFeatures();
    table.start();
    if (frontend.mode !== 'qemu') shareInflight(); // QEMU's file system device agrees to it, but makes no use of it
    vrings.forEach((vring, index) => vring.setUp(queues[index]!, userAddress, isLogged));
    shareLog();
    if (canEnable) for (const vring of vrings) vring.enable(true);
    callDriver();
  },
  stopped: ({ vrings }, attempts) => {
    for (const vring of vrings) attempts.run(() => vring.mask());
  },
};

const CLOUD_HYPERVISOR: Dialect = {
  sendsChannelAtStart: true,
  negotiate: negotiateUnlimited,
  featuresSent: () => undefined,
  connected: ({ frontend }) => {
    frontend.acknowledgeAll();
  },
  start: ({ frontend, vrings, table, canEnable, backendChannel }, options) => {
    const { queues, userAddress, isLogged, sendFeatures, shareInflight, shareLog } = options;
    sendFeatures();
    table.startWhole();
    vrings.forEach((vring, index) => vring.sendNum(queues[index]!));
    shareInflight();
    vrings.forEach((vring, index) => {
      vring.setUpNumbered(queues[index]!, userAddress, isLogged);
    });
    shareLog();
    if (canEnable) for (const vring of vrings) vring.enable(true);
    if (backendChannel !== undefined && frontend.hasProtocolFeature(ProtocolFeature.BACKEND_REQ))
      frontend.setBackendReqFd(backendChannel);
  },
  stopped: () => undefined, // the driver may be called at any time
};

export const DIALECTS: { readonly [Name in DialectName]: Dialect } = {
  qemu: QEMU,
  'cloud-hypervisor': CLOUD_HYPERVISOR,
};
