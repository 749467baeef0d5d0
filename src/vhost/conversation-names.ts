/** Names of requests and feature bits, as recordings write them. */
import { bitsOf } from '../../protocol/bits.ts';
import { BackendRequest, FrontendRequest, ProtocolFeature } from '../../protocol/vhost-user.ts';
import { VHOST_F_LOG_ALL, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { VIRTIO_RING_F_EVENT_IDX, VIRTIO_RING_F_INDIRECT_DESC } from '../../protocol/virtio-ring.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';

const frontendNames = namesOf(FrontendRequest);
const backendNames = namesOf(BackendRequest);

/** `REQ_n` for a number the specification does not have. */
export function requestName(chan: 'main' | 'backend', request: number): string {
  const name = chan === 'main' ? frontendNames.get(request) : backendNames.get(request);
  if (name === undefined) return `REQ_${request}`;
  return chan === 'main' ? name : `BACKEND_${name}`;
}

const virtioFeatures = new Map([
  ...namesOf(VirtioFeature),
  [VirtioFeature.ACCESS_PLATFORM, 'IOMMU_PLATFORM'],
  [VHOST_F_LOG_ALL, 'LOG_ALL'],
  [VIRTIO_RING_F_INDIRECT_DESC, 'INDIRECT_DESC'],
  [VIRTIO_RING_F_EVENT_IDX, 'EVENT_IDX'],
  [VHOST_USER_F_PROTOCOL_FEATURES, 'PROTOCOL_FEATURES'],
]);
const protocolFeatures = new Map([...namesOf(ProtocolFeature), [ProtocolFeature.MTU, 'NET_MTU']]);

/** The set bits by name, lowest first; `bitN` without one. */
export const virtioFeatureNames = (mask: bigint): readonly string[] => named(mask, virtioFeatures);
export const protocolFeatureNames = (mask: bigint): readonly string[] => named(mask, protocolFeatures);

const named = (mask: bigint, names: ReadonlyMap<number, string>): readonly string[] =>
  bitsOf(mask).map((bit) => names.get(bit) ?? `bit${bit}`);

function namesOf(numbers: Readonly<Record<string, number>>): Map<number, string> {
  return new Map(Object.entries(numbers).map(([name, number]) => [number, name]));
}
