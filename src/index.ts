/**
 * What the package offers to programs. The only barrel: inside, files import from each other.
 *
 * To serve a device: `BackendSession` with a `VhostDevice`, a `GuestMemory` and an `EventLoop`. To serve a file system:
 * `FsDevice` over a `FuseServer` over a `FileSystem`, of which `PassthroughFs` is one. To be the other side:
 * `VhostUserFrontend`, or a whole `Machine` with its `VirtioFsClient`. To model memory: `MemoryTopology`.
 */
export * from './errors.ts';
export * from './units.ts';
export * from './log.ts';

export { EPOLLERR, EPOLLET, EPOLLHUP, EPOLLIN, EPOLLOUT, EPOLLRDHUP, EventLoop } from './host/epoll.ts';
export { createEventfd, drainEventfd, signalEventfd } from './host/eventfd.ts';
export { createMemfd, MFD_ALLOW_SEALING, MFD_HUGETLB } from './host/memfd.ts';
export { copyMemory, NativeMemory } from './host/native-memory.ts';
export { Cleanup, OwnedFd } from './host/owned-fd.ts';
export { acceptUnix, connectUnix, listenUnix, MessageSocket, socketPair } from './host/unix-socket.ts';

export { GuestMemory } from './guest-memory/guest-memory.ts';
export type { RegionDescription as VhostRegionDescription } from './guest-memory/region.ts';
export { Chain } from './virtio/chain.ts';
export { DriverQueue, driverQueueBytes, type DriverQueueSetup } from './virtio/driver-queue.ts';
export { Virtqueue, type VirtqueueSetup } from './virtio/virtqueue.ts';

export { type BackendOptions, BackendSession } from './vhost/backend.ts';
export { type CompleteChain, DEFERRED as CHAIN_DEFERRED, type VhostDevice } from './vhost/device.ts';
export { type FrontendOptions } from './vhost/frontend-channel.ts';
export { DeviceFrontend } from './vhost/frontend-device.ts';
export type { DeviceFrontendOptions, DriverSetup } from './vhost/frontend-device-options.ts';
export type { BackendRequestHandlers } from './vhost/frontend-requests.ts';
export { VhostUserFrontend } from './vhost/frontend.ts';

export * from './fuse/file-system.ts';
export { FuseRequest } from './fuse/request.ts';
export { FuseServer, type FuseServerOptions } from './fuse/server.ts';
export type { PassthroughOptions } from './passthrough/options.ts';
export { PassthroughFs } from './passthrough/passthrough-fs.ts';
export { FsDevice } from './daemon/fs-device.ts';

export { LoopbackMachine, type LoopbackOptions } from './machine/loopback-machine.ts';
export type { GuestBuffer } from './machine/guest-ram.ts';
export type { GuestVirtioMem } from './machine/guest-virtio-mem.ts';
export { Machine } from './machine/machine.ts';
export type { MachineDevice, MachineDeviceOptions } from './machine/machine-device.ts';
export type { MachineMemoryOptions } from './machine/machine-memory.ts';
export type { MemslotArray, MemslotArrayOptions } from './machine/memslot-array.ts';
export type { DimmPlug, GuestDimm, VirtioMemPlug } from './machine/plugged-memory.ts';
export { readBlkConfig, VirtioBlkClient, type VirtioBlkClientOptions } from './machine/virtio-blk-client.ts';
export { expectAnswer, ROOT, VirtioFsClient } from './machine/virtio-fs-client.ts';
export { VirtioMemDriver } from './machine/virtio-mem-driver.ts';

export * from './memory/access.ts';
export { AddressSpace } from './memory/address-space.ts';
export * from './memory/coalesced.ts';
export * from './memory/dirty-log.ts';
export { DirtyTracking, TrackingReason } from './memory/dirty-tracking.ts';
export * from './memory/find.ts';
export type { FlatRange } from './memory/flat-range.ts';
export { FlatView } from './memory/flat-view.ts';
export * from './memory/ioeventfd.ts';
export * from './memory/iommu.ts';
export * from './memory/listener.ts';
export { AddressSpaceMapper, type MappedMemory } from './memory/mapping.ts';
export { parseMtree } from './memory/mtree/parse.ts';
export type { RamBlock, RamBytes } from './memory/ram-block.ts';
export type { RamDiscardListener, RamDiscardManager } from './memory/ram-discard.ts';
export { MemoryRegionCache } from './memory/region-cache.ts';
export {
  DirtyClient,
  type RegionDescription,
  type RegionKind,
  type RegionOwner,
  SPACE_SIZE,
} from './memory/region-description.ts';
export * from './memory/region-ops.ts';
export { MemoryRegion } from './memory/region.ts';
export { MemoryTopology, type TopologyOptions } from './memory/topology.ts';
export { translate, type Translation } from './memory/translate.ts';

export { DeviceMemory, type DeviceMemoryOptions } from './memory-devices/device-memory.ts';
export { DiscardManager } from './memory-devices/discard-manager.ts';
export { HvBalloon, type HvBalloonOptions } from './memory-devices/hv-balloon.ts';
export type { MemoryDevice } from './memory-devices/memory-device.ts';
export {
  type MemslotConsumer,
  MemslotBudget,
  vhostUserMemslotLimit,
} from './memory-devices/memslot-budget.ts';
export { Nvdimm, PcDimm } from './memory-devices/pc-dimm.ts';
export { PcMemory, type PcMemoryOptions } from './memory-devices/pc-memory.ts';
export { PinningListener } from './memory-devices/pinning-listener.ts';
export { createRamBackend, type RamBackend } from './memory-devices/ram-backend.ts';
export type { VirtioMemOptions } from './memory-devices/virtio-mem-options.ts';
export { VirtioMem } from './memory-devices/virtio-mem.ts';
