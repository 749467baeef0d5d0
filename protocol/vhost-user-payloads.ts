/**
 * Payloads of vhost-user messages, as the specification draws them.
 *
 * A payload has exactly the size its request says; octets too few or too many are a CodecError. Payloads of fixed size
 * are structs; two carry a list (the memory table, configuration space) and some are not ours to look into.
 */
import { VHOST_USER_MAX_CONFIG_SIZE } from './vhost-user.ts';
import {
  bytes,
  CodecError,
  pad,
  struct,
  u16,
  u32,
  u64,
  u8,
  type Fields,
  type Struct,
  type ValueOf,
} from './struct.ts';

/** How one kind of payload is read and written. */
export interface Payload<T> {
  /** The C name, or the specification's words. */
  readonly name: string;
  /** Bytes; fixed if both are the same. */
  readonly minSize: number;
  readonly maxSize: number;
  /** @throws {CodecError} BAD_SIZE or BAD_VALUE */
  readonly decode: (octets: Uint8Array) => T;
  /** @throws {CodecError} BAD_VALUE */
  readonly encode: (value: T) => Uint8Array;
}
export type PayloadValue<P> = P extends Payload<infer T> ? T : never;

const u64Struct = struct('u64', 8, { value: u64 });

/** `vhost_vring_state`: SET_VRING_NUM, BASE, ENABLE, GET_VRING_BASE. */
const vringState = struct('vhost_vring_state', 8, {
  index: u32,
  num: u32, // entries, next available index, or 0/1: as the request says
});

/** `vhost_vring_addr`: SET_VRING_ADDR. */
const vringAddr = struct('vhost_vring_addr', 40, {
  index: u32,
  flags: u32, // VHOST_VRING_F_LOG
  descUserAddr: u64,
  usedUserAddr: u64,
  availUserAddr: u64,
  logGuestAddr: u64, // guest physical address of the used ring, for the log
});

/** `VhostUserMemoryRegion`. vhost-user spec § Memory regions description. */
export const MemoryRegionDescription = struct('VhostUserMemoryRegion', 32, {
  guestPhysAddr: u64,
  memorySize: u64,
  userspaceAddr: u64,
  mmapOffset: u64, // bytes into the fd
});
export type MemoryRegionDescription = ValueOf<typeof MemoryRegionDescription>;

const memoryTableHeader = struct('VhostUserMemory', 8, { nregions: u32, padding: u32 });

/** `VhostUserMemRegMsg`: ADD_MEM_REG, REM_MEM_REG. Some peers put something into the padding. */
const singleRegion = struct('VhostUserMemRegMsg', 40, { padding: u64, region: MemoryRegionDescription });

/** `VhostUserLog`: SET_LOG_BASE. */
const log = struct('VhostUserLog', 16, {
  mmapSize: u64, // bytes of log
  mmapOffset: u64, // bytes into the fd
});

/** `vhost_iotlb_msg`. */
const iotlb = struct('vhost_iotlb_msg', 32, {
  iova: u64,
  size: u64,
  uaddr: u64,
  perm: u8, // 0 none, 1 read, 2 write, 3 both
  type: u8, // 1 miss, 2 update, 3 invalidate, 4 access failure
  padding: pad(6),
});

const configHeader = struct('VhostUserConfig', 12, {
  offset: u32, // bytes into configuration space
  size: u32, // bytes of it in this message
  flags: u32, // 0 a driver's write, 1 live migration
});

/** `VhostUserVringArea`: VRING_HOST_NOTIFIER_MSG. */
const vringArea = struct('VhostUserVringArea', 24, { value: u64, size: u64, offset: u64 });

/** `VhostUserInflight`. */
const inflight = struct('VhostUserInflight', 24, {
  mmapSize: u64,
  mmapOffset: u64,
  numQueues: u16,
  queueSize: u16,
  padding: pad(4),
});

/** `VhostUserShared`: an object is known by its UUID. */
const shared = struct('VhostUserShared', 16, { uuid: bytes(16) });

/** `VhostUserTransferDeviceState`: SET_DEVICE_STATE_FD. */
const deviceState = struct('VhostUserTransferDeviceState', 8, {
  direction: u32, // 0 save, 1 load
  phase: u32, // 0 stopped
});

/** `VhostUserMMap`: SHMEM_MAP, SHMEM_UNMAP. */
const mmap = struct('VhostUserMMap', 40, {
  shmid: u8,
  padding: pad(7),
  fdOffset: u64,
  shmOffset: u64,
  len: u64,
  flags: u64, // bit 0: writable
});

const VIRTIO_MAX_SHMEM_REGIONS = 256;
const shmemConfigHeader = struct('VhostUserShMemConfig', 8, { nregions: u32, padding: u32 });

/** Longest payload we name: what QEMU's largest message, a crypto session, takes. */
const MAX_OPAQUE_SIZE = 4096;

export const NoPayload: Payload<undefined> = {
  name: 'no payload',
  minSize: 0,
  maxSize: 0,
  decode: (octets) => checkSize('no payload', octets, 0, 0),
  encode: () => new Uint8Array(0),
};

export const U64: Payload<bigint> = {
  name: 'u64',
  minSize: 8,
  maxSize: 8,
  decode: (octets) => {
    checkSize('u64', octets, 8, 8);
    return u64Struct.decode(octets).value;
  },
  encode: (value) => u64Struct.encode({ value }),
};

export const VringState = ofStruct(vringState);
export type VringState = PayloadValue<typeof VringState>;
export const VringAddr = ofStruct(vringAddr);
export type VringAddr = PayloadValue<typeof VringAddr>;
export const SingleRegion = ofStruct(singleRegion);
export const Log = ofStruct(log);
export const Iotlb = ofStruct(iotlb);
export const VringArea = ofStruct(vringArea);
export const Inflight = ofStruct(inflight);
export const Shared = ofStruct(shared);
export const DeviceState = ofStruct(deviceState);
export const Mmap = ofStruct(mmap);

export interface MemoryTable {
  /** Anything: the specification gives it no meaning. */
  readonly padding: number;
  readonly regions: readonly MemoryRegionDescription[];
}

/** `VhostUserMemory`: as many regions as the header says and the payload holds. */
export const MemoryTable: Payload<MemoryTable> = {
  name: 'VhostUserMemory',
  minSize: memoryTableHeader.size,
  maxSize: memoryTableHeader.size + 0xffff * MemoryRegionDescription.size,
  decode: (octets) => {
    const { nregions, padding } = memoryTableHeader.decode(octets);
    const size = memoryTableHeader.size + nregions * MemoryRegionDescription.size;
    checkSize(`VhostUserMemory of ${nregions} regions`, octets, size, size);
    const at = (i: number): number => memoryTableHeader.size + i * MemoryRegionDescription.size;
    return {
      padding,
      regions: Array.from({ length: nregions }, (_, i) => MemoryRegionDescription.decode(octets, at(i))),
    };
  },
  encode: ({ padding, regions }) =>
    Buffer.concat([
      memoryTableHeader.encode({ nregions: regions.length, padding }),
      ...regions.map((region) => MemoryRegionDescription.encode(region)),
    ]),
};

export interface ConfigAccess {
  readonly offset: number;
  readonly flags: number;
  /** The octets of configuration space; its length is the access' size. */
  readonly contents: Uint8Array;
}

/** `VhostUserConfig`: GET_CONFIG, SET_CONFIG. */
export const ConfigAccess: Payload<ConfigAccess> = {
  name: 'VhostUserConfig',
  minSize: configHeader.size,
  maxSize: configHeader.size + VHOST_USER_MAX_CONFIG_SIZE,
  decode: (octets) => {
    const { offset, size, flags } = configHeader.decode(octets);
    if (size > VHOST_USER_MAX_CONFIG_SIZE)
      throw new CodecError(
        'BAD_VALUE',
        `VhostUserConfig.size: ${size}, allowed 0..${VHOST_USER_MAX_CONFIG_SIZE}`,
      );
    checkSize(`VhostUserConfig of ${size} bytes`, octets, configHeader.size + size, configHeader.size + size);
    return { offset, flags, contents: Uint8Array.from(octets.subarray(configHeader.size)) };
  },
  encode: ({ offset, flags, contents }) =>
    Buffer.concat([configHeader.encode({ offset, size: contents.length, flags }), contents]),
};

/** `VhostUserShMemConfig`: how many shared memory regions there are, and the size of the one with each id. */
export interface ShmemConfig {
  readonly nregions: number;
  readonly memorySizes: readonly bigint[];
}
export const ShmemConfig: Payload<ShmemConfig> = {
  name: 'VhostUserShMemConfig',
  minSize: shmemConfigHeader.size + 8 * VIRTIO_MAX_SHMEM_REGIONS,
  maxSize: shmemConfigHeader.size + 8 * VIRTIO_MAX_SHMEM_REGIONS,
  decode: (octets) => {
    const size = shmemConfigHeader.size + 8 * VIRTIO_MAX_SHMEM_REGIONS;
    checkSize('VhostUserShMemConfig', octets, size, size);
    const at = (i: number): number => shmemConfigHeader.size + 8 * i;
    return {
      nregions: shmemConfigHeader.decode(octets).nregions,
      memorySizes: Array.from(
        { length: VIRTIO_MAX_SHMEM_REGIONS },
        (_, i) => u64Struct.decode(octets, at(i)).value,
      ),
    };
  },
  encode: ({ nregions, memorySizes }) => {
    if (memorySizes.length !== VIRTIO_MAX_SHMEM_REGIONS)
      throw new CodecError(
        'BAD_VALUE',
        `VhostUserShMemConfig.memorySizes: ${memorySizes.length}, allowed ${VIRTIO_MAX_SHMEM_REGIONS}`,
      );
    const sizes = memorySizes.map((value) => u64Struct.encode({ value }));
    return Buffer.concat([shmemConfigHeader.encode({ nregions, padding: 0 }), ...sizes]);
  },
};

/** Octets we pass on or refuse without looking: crypto sessions. */
export const Opaque: Payload<Uint8Array> = {
  name: 'opaque',
  minSize: 0,
  maxSize: MAX_OPAQUE_SIZE,
  decode: (octets) => {
    checkSize('opaque', octets, 0, MAX_OPAQUE_SIZE);
    return Uint8Array.from(octets);
  },
  encode: (value) => Uint8Array.from(value),
};

function ofStruct<F extends Fields>(layout: Struct<F>): Payload<ValueOf<Struct<F>>> {
  return {
    name: layout.name,
    minSize: layout.size,
    maxSize: layout.size,
    decode: (octets) => {
      checkSize(layout.name, octets, layout.size, layout.size);
      return layout.decode(octets);
    },
    encode: (value) => layout.encode(value),
  };
}

function checkSize(name: string, octets: Uint8Array, min: number, max: number): undefined {
  if (octets.length < min || octets.length > max)
    throw new CodecError(
      'BAD_SIZE',
      `${name}: ${octets.length} bytes, allowed ${min === max ? min : `${min}..${max}`}`,
    );
}
