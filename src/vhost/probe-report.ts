/** What `probe` found out, with names, a guess at the device, and remarks on what a front-end will make of it. */
import { bitsOf, hasBit } from '../../protocol/bits.ts';
import {
  ProtocolFeature,
  VHOST_F_LOG_ALL,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from '../../protocol/vhost-user.ts';
import { VIRTIO_BLK_SECTOR, VirtioBlkConfig, VirtioBlkFeature } from '../../protocol/virtio-blk.ts';
import { VirtioFsConfig } from '../../protocol/virtio-fs.ts';
import { VirtioFeature } from '../../protocol/virtio.ts';
import { SAFE_MAX_MEMSLOTS, vhostUserMemslotLimit } from '../memory-devices/memslot-budget.ts';
import { protocolFeatureNames, virtioFeatureNames } from './conversation-names.ts';
import type { Offer, Outcome } from './probe.ts';

export interface NamedBit {
  readonly bit: number;
  /** Absent for a bit no specification gives a meaning. */
  readonly name?: string;
}

export interface DeviceGuess {
  readonly kind: 'file system' | 'block' | 'network' | 'crypto' | 'unknown';
  readonly because: string;
}

/** Plain data, ready to be JSON. */
export interface ProbeReport {
  readonly device: DeviceGuess;
  readonly features?: readonly NamedBit[];
  readonly protocolFeatures?: readonly NamedBit[];
  readonly queues?: number;
  readonly memslots: {
    /** What it says; absent without CONFIGURE_MEM_SLOTS. Text where it is beyond what a number holds. */
    readonly announced?: number | string;
    /** What QEMU 10 makes of it. */
    readonly qemu: number;
  };
  readonly status?: number;
  readonly acknowledges: {
    readonly owner: Outcome;
    readonly addRegion: Outcome;
    readonly removeRegion: Outcome;
  };
  readonly config?: { readonly size: number; readonly octets: string; readonly meaning?: string };
  readonly remarks: readonly string[];
  /** Why the questions ended early. */
  readonly failure?: { readonly code: string; readonly text: string };
}

/** Bits 0–23 and from 50 on belong to the device. virtio 1.2 § 2.2. */
const isDeviceBit = (bit: number): boolean => bit <= 23 || bit >= 50;

export function reportOf(offer: Offer): ProbeReport {
  const { features, protocolFeatures, queues, memslots, status, config, failure } = offer;
  const device = guessDevice(offer);
  return {
    device,
    ...(features === undefined ? {} : { features: namedFeatures(features, device.kind) }),
    ...(protocolFeatures === undefined
      ? {}
      : { protocolFeatures: named(protocolFeatures, protocolFeatureNames) }),
    ...(queues === undefined ? {} : { queues: Number(queues) }),
    memslots: {
      ...(memslots === undefined ? {} : { announced: plain(memslots) }),
      qemu: vhostUserMemslotLimit({
        hasProtocolFeatures: protocolFeatures !== undefined,
        maxMemSlots: memslots,
      }),
    },
    ...(status === undefined ? {} : { status: Number(status) }),
    acknowledges: { owner: offer.owner, addRegion: offer.addRegion, removeRegion: offer.removeRegion },
    ...(config === undefined ? {} : { config: describeConfig(config, device.kind) }),
    remarks: features === undefined ? [] : remarksOn(offer, features),
    ...(failure === undefined ? {} : { failure: { code: failure.code, text: failure.message } }),
  };
}

function namedFeatures(mask: bigint, kind: DeviceGuess['kind']): readonly NamedBit[] {
  const blockNames = new Map<number, string>(
    Object.entries(VirtioBlkFeature).map(([name, bit]) => [bit, `BLK_${name}`]),
  );
  return named(mask, virtioFeatureNames).map((each) => {
    if (each.name !== undefined || !isDeviceBit(each.bit)) return each;
    return { bit: each.bit, name: (kind === 'block' && blockNames.get(each.bit)) || 'of the device' };
  });
}

const named = (mask: bigint, namesOf: (mask: bigint) => readonly string[]): readonly NamedBit[] =>
  bitsOf(mask).map((bit) => {
    const [name] = namesOf(1n << BigInt(bit));
    return name === undefined || name === `bit${bit}` ? { bit } : { bit, name };
  });

/** The protocol does not say what device it is; the offer gives it away, more or less. */
function guessDevice({ features = 0n, protocolFeatures = 0n, queues, config }: Offer): DeviceGuess {
  const speaks = (feature: ProtocolFeature): boolean => hasBit(protocolFeatures, feature);
  if (speaks(ProtocolFeature.CRYPTO_SESSION)) return { kind: 'crypto', because: 'it offers CRYPTO_SESSION' };
  if (speaks(ProtocolFeature.RARP) || speaks(ProtocolFeature.MTU))
    return { kind: 'network', because: 'it offers RARP or NET_MTU' };
  if (config !== undefined && config.length >= VirtioBlkConfig.size) {
    const { blkSize } = VirtioBlkConfig.decode(config);
    if (
      hasBit(features, VirtioBlkFeature.BLK_SIZE) &&
      blkSize >= VIRTIO_BLK_SECTOR &&
      Number.isInteger(Math.log2(blkSize))
    )
      return { kind: 'block', because: `BLK_SIZE, and a configuration with blocks of ${blkSize} bytes` };
  }
  if (config !== undefined && config.length >= VirtioFsConfig.size && fsTag(config) !== undefined)
    return { kind: 'file system', because: 'its configuration begins with a tag' };
  const deviceBits = bitsOf(features).filter((bit) => bit > 0 && isDeviceBit(bit));
  if (deviceBits.length === 0 && (queues ?? 0n) >= 2n)
    return { kind: 'file system', because: 'no feature bit of another device, and more than one queue' };
  return { kind: 'unknown', because: `feature bits of the device: ${deviceBits.join(' ') || 'none'}` };
}

/** A tag has no octet after its first NUL. */
function fsTag(config: Uint8Array): string | undefined {
  const { tag } = VirtioFsConfig.decode(config);
  const end = tag.indexOf(0);
  const isPadded = end < 0 || tag.subarray(end).every((octet) => octet === 0);
  const text = Buffer.from(end < 0 ? tag : tag.subarray(0, end)).toString();
  return isPadded && /^[\x21-\x7e]+$/.test(text) ? text : undefined;
}

function describeConfig(config: Uint8Array, kind: DeviceGuess['kind']) {
  const octets = Buffer.from(config).toString('hex');
  return { size: config.length, octets, ...meaningOf(config, kind) };
}

function meaningOf(config: Uint8Array, kind: DeviceGuess['kind']): { readonly meaning?: string } {
  if (kind === 'block' && config.length >= VirtioBlkConfig.size) {
    const { capacity, blkSize } = VirtioBlkConfig.decode(config);
    return { meaning: `${capacity} sectors of 512 bytes, blocks of ${blkSize} bytes` };
  }
  if (kind === 'file system' && config.length >= VirtioFsConfig.size)
    return {
      meaning: `tag ${fsTag(config) ?? '?'}, request queues: ${VirtioFsConfig.decode(config).numRequestQueues}`,
    };
  return {};
}

const plain = (value: bigint): number | string =>
  value <= BigInt(Number.MAX_SAFE_INTEGER) ? Number(value) : String(value);

function remarksOn({ protocolFeatures, memslots }: Offer, features: bigint): string[] {
  const remarks: string[] = [];
  const note = (applies: boolean, text: string): void => {
    if (applies) remarks.push(text);
  };
  note(!hasBit(features, VirtioFeature.VERSION_1), 'VERSION_1 is missing: legacy drivers only');
  if (protocolFeatures === undefined) {
    note(
      !hasBit(features, VHOST_USER_F_PROTOCOL_FEATURES),
      `without feature ${VHOST_USER_F_PROTOCOL_FEATURES} QEMU 10 has no memory slot for it`,
    );
    return remarks;
  }
  const has = (feature: ProtocolFeature): boolean => hasBit(protocolFeatures, feature);
  note(!has(ProtocolFeature.REPLY_ACK), 'no REPLY_ACK: QEMU does not learn of a refused memory region');
  const isTold = memslots !== undefined || !has(ProtocolFeature.CONFIGURE_MEM_SLOTS);
  note(
    memslots === undefined && isTold,
    'no CONFIGURE_MEM_SLOTS: 8 regions, and the whole table is sent again at each change',
  );
  note(
    isTold && (memslots ?? 0n) < SAFE_MAX_MEMSLOTS,
    `fewer than ${SAFE_MAX_MEMSLOTS} memory slots: virtio-mem uses a single one, whatever dynamic-memslots says`,
  );
  note(
    hasBit(features, VHOST_F_LOG_ALL) && !has(ProtocolFeature.LOG_SHMFD),
    'LOG_ALL without LOG_SHMFD: QEMU blocks migration',
  );
  note(
    has(ProtocolFeature.GPA_ADDRESSES) && !has(ProtocolFeature.SHMEM),
    'bit 21 is GPA_ADDRESSES in the specification, but SHMEM in rust-vmm up to 0.16: ' +
      (has(ProtocolFeature.BACKEND_SEND_FD) ? 'rather that, as it comes with BACKEND_SEND_FD' : 'unclear'),
  );
  const unknown = bitsOf(protocolFeatures).filter((bit) => bit > ProtocolFeature.SHMEM);
  note(unknown.length > 0, `protocol feature bits no specification names: ${unknown.join(' ')}`);
  return remarks;
}
