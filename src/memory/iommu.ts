/** Regions that translate: what an IOMMU supplies, and who wants to hear when its translations change. */
import { MemoryError } from '../errors.ts';
import type { AddressSpace } from './address-space.ts';
import type { MemoryRegion } from './region.ts';
import type { MemTxAttrs } from './region-ops.ts';

/** Bits of what an entry, or an access, permits. */
export const IommuAccess = { NONE: 0, READ: 1, WRITE: 2, READ_WRITE: 3 } as const;

/** What an IOMMU says about the page that holds an address. */
export interface IommuEntry {
  readonly target: AddressSpace;
  /** First address of the page, as the device uses it. */
  readonly address: bigint;
  readonly translated: bigint;
  /** Page size − 1. */
  readonly addressMask: bigint;
  readonly access: number;
}

export interface IommuRegion {
  /** Called for every access; `access` 0 asks without intent to access, as replay does. */
  translate(address: bigint, access: number, index: number): IommuEntry;
  /** Smallest page, in bytes. Default 4096. */
  readonly minPageSize?: bigint;
  /** Which of several translations these attributes use. Default 0. */
  attrsToIndex?(attrs: MemTxAttrs): number;
  /** How many there are. Default 1. */
  readonly indexCount?: number;
  /** Called when the union of what notifiers want changes. @returns a text to refuse the notifier */
  notifierFlagsChanged?(old: number, next: number): string | void;
  /** Replaces the page-by-page replay. */
  replay?(notifier: IommuNotifier): void;
}

/** Bits of what a notifier hears. */
export const IommuEvent = { UNMAP: 1, MAP: 2, DEVIOTLB_UNMAP: 4 } as const;

export interface IommuNotifier {
  /** Bits of `IommuEvent`. */
  readonly events: number;
  /** [start, end) of the region. */
  readonly start: bigint;
  readonly end: bigint;
  readonly index: number;
  notify(entry: IommuEntry): void;
}

const notifiers = new WeakMap<MemoryRegion, readonly IommuNotifier[]>();

/** @throws {MemoryError} WRONG_KIND if it is no IOMMU region; BAD_STATE if the IOMMU refuses such notifiers */
export function addIommuNotifier(region: MemoryRegion, notifier: IommuNotifier): void {
  const iommu = iommuOf(region);
  if (notifier.index >= (iommu.indexCount ?? 1)) {
    throw new MemoryError('BAD_STATE', `${region.name} has no translation ${notifier.index}`);
  }
  const present = notifiers.get(region) ?? [];
  const next = [...present, notifier];
  const refusal = iommu.notifierFlagsChanged?.(eventsOf(present), eventsOf(next));
  if (typeof refusal === 'string') throw new MemoryError('BAD_STATE', `${region.name}: ${refusal}`);
  notifiers.set(region, next);
}

export function removeIommuNotifier(region: MemoryRegion, notifier: IommuNotifier): void {
  const present = notifiers.get(region) ?? [];
  const next = present.filter((other) => other !== notifier);
  notifiers.set(region, next);
  if (eventsOf(present) !== eventsOf(next))
    iommuOf(region).notifierFlagsChanged?.(eventsOf(present), eventsOf(next));
}

/**
 * Tells the notifiers whose range the entry overlaps. One that hears device-IOTLB events is told its part of it; the others need
 * the whole entry in their range.
 *
 * @throws {MemoryError} BAD_STATE if the entry reaches out of the range of a notifier that needs it whole
 */
export function notifyIommu(region: MemoryRegion, index: number, event: number, entry: IommuEntry): void {
  const end = entry.address + entry.addressMask + 1n;
  for (const notifier of notifiers.get(region) ?? []) {
    if (notifier.index !== index || notifier.start >= end || notifier.end <= entry.address) continue;
    if ((notifier.events & event) === 0) continue;
    if ((notifier.events & IommuEvent.DEVIOTLB_UNMAP) !== 0) {
      const from = notifier.start > entry.address ? notifier.start : entry.address;
      const to = notifier.end < end ? notifier.end : end;
      notifier.notify({ ...entry, address: from, addressMask: to - from - 1n });
    } else if (entry.address < notifier.start || end > notifier.end) {
      throw new MemoryError('BAD_STATE', `${region.name}: an entry reaches out of a notifier's range`);
    } else {
      notifier.notify(entry);
    }
  }
}

/** Tells a notifier of everything that is mapped now. */
export function replayIommu(region: MemoryRegion, notifier: IommuNotifier): void {
  const iommu = iommuOf(region);
  if (iommu.replay !== undefined) {
    iommu.replay(notifier);
    return;
  }
  const page = iommu.minPageSize ?? 4096n;
  for (let address = notifier.start; address < notifier.end;) {
    const entry = iommu.translate(address, IommuAccess.NONE, notifier.index);
    if (entry.access !== IommuAccess.NONE) notifier.notify(entry);
    const next = (address & ~entry.addressMask) + entry.addressMask + 1n;
    address = entry.access === IommuAccess.NONE || next <= address ? address + page : next;
  }
}

const eventsOf = (list: readonly IommuNotifier[]): number =>
  list.reduce((bits, { events }) => bits | events, 0);

function iommuOf(region: MemoryRegion): IommuRegion {
  if (region.iommu === undefined) throw new MemoryError('WRONG_KIND', `${region.name} does not translate`);
  return region.iommu;
}
