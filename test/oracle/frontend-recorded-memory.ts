/** Guest memory of a recorded session: sections of its commits as our listeners take them. */
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd, type Cleanup } from '../../src/host/owned-fd.ts';
import { FlatView } from '../../src/memory/flat-view.ts';
import type { MemorySection } from '../../src/memory/listener.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import type { RecordedSection, Recording } from './frontend-recording.ts';

/** The RAM regions of a recording, told apart by name and by where QEMU has them mapped. */
export class RecordedMemory {
  readonly #recording: Recording;
  readonly #owned: Cleanup;
  readonly #topology = new MemoryTopology();
  readonly #regions = new Map<string, MemoryRegion>();
  /** Guest addresses at which memory devices begin. */
  readonly #devices = new Set<number>();
  readonly #lowest = new Map<string, number>();

  constructor(recording: Recording, owned: Cleanup) {
    this.#recording = recording;
    this.#owned = owned;
    for (const event of recording.events) {
      if (event.ev !== 'commit') continue;
      for (const [name, , , host] of event.flat ?? [])
        this.#lowest.set(name, Math.min(host, this.#lowest.get(name) ?? host));
    }
  }

  place(address: number): void {
    this.#devices.add(address);
  }

  free(address: number): void {
    this.#devices.delete(address);
  }

  section([name, address, size, host]: RecordedSection): MemorySection {
    // a memory device begins with its region; of other memory the lowest part is always there
    const device = Math.max(...[...this.#devices].filter((start) => start <= address));
    const base = device > 0 ? host - (address - device) : this.#lowest.get(name)!;
    return {
      region: this.#region(name, base),
      view: FlatView.EMPTY,
      offsetWithinRegion: BigInt(host - base),
      offsetWithinAddressSpace: BigInt(address),
      size: BigInt(size),
      readonly: false,
      nonvolatile: false,
      unmergeable: this.#isCutIntoMemslots(name),
    };
  }

  #region(name: string, base: number): MemoryRegion {
    const key = `${name}@${base}`;
    const known = this.#regions.get(key);
    if (known !== undefined) return known;
    const options = this.#recording.objects.find(({ id }) => id === name);
    const fd = this.#owned.use(new OwnedFd(createMemfd(name, 4096))).fd;
    const block = {
      id: key,
      size: 1n << 50n,
      pageSize: sizeOf(options?.['hugetlbsize'] ?? (options?.['hugetlb'] === 'on' ? '2M' : '4K')),
      fd,
      fdOffset: BigInt(sizeOf(options?.['offset'] ?? '0')),
      hostAddress: BigInt(base),
    };
    const region = this.#topology.createRegion({ kind: 'ram', name, size: block.size, block });
    this.#regions.set(key, region);
    return region;
  }

  #isCutIntoMemslots(memdev: string): boolean {
    return this.#recording.objects.some(
      (options) => options['memdev'] === memdev && options['dynamic-memslots'] === 'on',
    );
  }
}

function sizeOf(text: string): number {
  const [, digits, unit = ''] = /^(\d+|0x[\da-f]+)([KMGT]?)/i.exec(text) ?? [];
  return Number(digits ?? 0) * 1024 ** ' KMGT'.indexOf(unit.toUpperCase() || ' ');
}
