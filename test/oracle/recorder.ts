/** A listener that writes down what it hears, in the words of the recordings (FORMAT.md). */
import type { FlatRange } from '../../src/memory/flat-range.ts';
import type { EventNotifier } from '../../src/memory/ioeventfd.ts';
import type { EventfdSection, MemoryListener, MemorySection } from '../../src/memory/listener.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';

/** One callback, or one range: numbers of 64 bits and more as hexadecimal strings. */
export type Row = readonly (string | number)[];

export const hexOf = (value: bigint): string => value.toString(16);

export const bigOf = (text: string): bigint =>
  text.startsWith('-') ? -BigInt(`0x${text.slice(1)}`) : BigInt(`0x${text}`);

/** @param label what the recording calls this listener */
export function recordingListener(
  label: string | number,
  idOf: (region: MemoryRegion) => number,
  record: (row: Row) => void,
  options: { readonly priority: number; readonly hasEventfds: boolean },
): MemoryListener {
  const ofSection = (section: MemorySection): Row => [
    hexOf(section.offsetWithinAddressSpace),
    hexOf(section.size),
    idOf(section.region),
    hexOf(section.offsetWithinRegion),
    sectionFlags(section),
  ];
  const about =
    (name: string) =>
    (section: MemorySection): void => {
      record([name, label, ...ofSection(section)]);
    };
  const withMasks =
    (name: string) =>
    (section: MemorySection, old: number, next: number): void => {
      record([name, label, ...ofSection(section), old, next]);
    };
  const withRange =
    (name: string) =>
    (section: MemorySection, address: bigint, size: bigint): void => {
      record([name, label, ...ofSection(section), hexOf(address), hexOf(size)]);
    };
  const alone = (name: string) => (): void => {
    record([name, label]);
  };
  const doorbell =
    (name: string) =>
    (section: EventfdSection, matchData: boolean, data: bigint, notifier: EventNotifier): void => {
      const { offsetWithinAddressSpace, size } = section;
      record([
        name,
        label,
        hexOf(offsetWithinAddressSpace),
        hexOf(size),
        Number(matchData),
        hexOf(data),
        notifier.order,
      ]);
    };
  return {
    priority: options.priority,
    begin: alone('begin'),
    commit: alone('commit'),
    regionAdd: about('region_add'),
    regionDel: about('region_del'),
    regionNop: about('region_nop'),
    logStart: withMasks('log_start'),
    logStop: withMasks('log_stop'),
    logSync: about('log_sync'),
    logClear: about('log_clear'),
    logGlobalStart: alone('log_global_start'),
    logGlobalStop: alone('log_global_stop'),
    logGlobalAfterSync: alone('log_global_after_sync'),
    coalescedIoAdd: withRange('coalesced_io_add'),
    coalescedIoDel: withRange('coalesced_io_del'),
    ...(options.hasEventfds
      ? { eventfdAdd: doorbell('eventfd_add'), eventfdDel: doorbell('eventfd_del') }
      : {}),
  };
}

export const sectionFlags = (section: MemorySection): string =>
  (section.readonly ? 'R' : '') + (section.nonvolatile ? 'N' : '') + (section.unmergeable ? 'U' : '');

/** A flat range as FORMAT.md writes it. */
export const rangeRow = (range: FlatRange, idOf: (region: MemoryRegion) => number): Row => [
  hexOf(range.start),
  hexOf(range.end - range.start),
  idOf(range.region),
  hexOf(range.offset),
  (range.dirtyMask === 0 ? '' : `D${range.dirtyMask}`) +
    (range.romdMode ? 'M' : '') +
    (range.readonly ? 'R' : '') +
    (range.nonvolatile ? 'N' : '') +
    (range.unmergeable ? 'U' : ''),
];

/** Throws with both sides where two lists first differ. */
export function expectSameRows(what: string, actual: readonly Row[], expected: readonly Row[]): void {
  const length = Math.max(actual.length, expected.length);
  for (let index = 0; index < length; index += 1) {
    const [ours, theirs] = [JSON.stringify(actual[index]), JSON.stringify(expected[index])];
    if (ours !== theirs) throw new Error(`${what}, row ${index}: ours ${ours}, QEMU ${theirs}`);
  }
}

/** Throws with the first line that differs. */
export function expectSameText(what: string, actual: string, expected: string): void {
  if (actual === expected) return;
  const [ours, theirs] = [actual.split('\n'), expected.split('\n')];
  for (let line = 0; line < Math.max(ours.length, theirs.length); line += 1) {
    if (ours[line] !== theirs[line]) {
      throw new Error(
        `${what}, line ${line + 1}: ours ${JSON.stringify(ours[line])}, QEMU ${JSON.stringify(theirs[line])}`,
      );
    }
  }
}
