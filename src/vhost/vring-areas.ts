/** Where the three areas of a ring are in this process, found by the addresses of the front-end. */
import {
  VRING_AVAIL_ALIGN_SIZE,
  VRING_DESC_ALIGN_SIZE,
  VRING_USED_ALIGN_SIZE,
  vringAvailSize,
  vringDescSize,
  vringUsedSize,
} from '../../protocol/virtio-ring.ts';
import type { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import { ProtocolError } from '../errors.ts';
import type { ReachableMemory } from '../guest-memory/reachable-memory.ts';
import { hex } from '../units.ts';

/** Addresses of this process, valid until the memory table changes. */
export interface VringAreas {
  readonly desc: number;
  readonly avail: number;
  readonly used: number;
}

/**
 * @param num entries of the ring
 * @throws {ProtocolError} UNMAPPED if an area is not whole in one region, BAD_VALUE if it is misaligned
 */
export function resolveAreas(
  memory: Pick<ReachableMemory, 'resolveUva'>,
  addr: VringAddr,
  num: number,
): VringAreas {
  const resolve = (what: string, uva: bigint, size: number, align: number): number => {
    const address = memory.resolveUva(uva, size);
    if (address < 0)
      throw new ProtocolError(
        'UNMAPPED',
        `ring ${addr.index}: ${what} ${hex(uva)}+${hex(size)} is in no region`,
      );
    if (address % align !== 0)
      throw new ProtocolError(
        'BAD_VALUE',
        `ring ${addr.index}: ${what} at ${hex(uva)}, allowed multiples of ${align}`,
      );
    return address;
  };
  return {
    desc: resolve('descriptors', addr.descUserAddr, vringDescSize(num), VRING_DESC_ALIGN_SIZE),
    avail: resolve('avail ring', addr.availUserAddr, vringAvailSize(num), VRING_AVAIL_ALIGN_SIZE),
    used: resolve('used ring', addr.usedUserAddr, vringUsedSize(num), VRING_USED_ALIGN_SIZE),
  };
}

export const areSameAreas = (a: VringAreas, b: VringAreas): boolean =>
  a.desc === b.desc && a.avail === b.avail && a.used === b.used;
