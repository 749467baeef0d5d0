/** RAM of a recorded session, and the sections of its commits as our listeners take them. */
import { createMemfd } from '../../src/host/memfd.ts';
import { OwnedFd, type Cleanup } from '../../src/host/owned-fd.ts';
import { FlatView } from '../../src/memory/flat-view.ts';
import type { MemorySection } from '../../src/memory/listener.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { createRamBackend, type RamBackend } from '../../src/memory-devices/ram-backend.ts';
import { MiB } from '../../src/units.ts';
import type { RecordedObject, RecordedSection, Recording } from './frontend-recording.ts';

/** The RAM regions of a recording, told apart by name and by where QEMU has them mapped. */
export class RecordedMemory {
  readonly #recording: Recording;
  readonly #owned: Cleanup;
  readonly #topology: MemoryTopology;
  readonly #regions = new Map<string, MemoryRegion>();
  /** Guest addresses at which memory devices begin. */
  readonly #devices = new Set<number>();
  readonly #lowest = new Map<string, number>();
  readonly #files = new Map<string, number>();

  constructor(recording: Recording, owned: Cleanup, topology = new MemoryTopology()) {
    this.#recording = recording;
    this.#owned = owned;
    this.#topology = topology;
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
      region: this.region(name, base),
      view: FlatView.EMPTY,
      offsetWithinRegion: BigInt(host - base),
      offsetWithinAddressSpace: BigInt(address),
      size: BigInt(size),
      readonly: false,
      nonvolatile: false,
      unmergeable: this.#isCutIntoMemslots(name),
    };
  }

  /** The RAM region of that name whose first byte QEMU has at `base`. */
  region(name: string, base = this.#lowest.get(name)!): MemoryRegion {
    const key = `${name}@${base}`;
    const known = this.#regions.get(key);
    if (known !== undefined) return known;
    const options = this.#recording.objects.find(({ id }) => id === name) ?? {};
    const block = {
      id: key,
      size: 1n << 50n,
      pageSize: pageSizeOf(options),
      fd: this.#file(key),
      fdOffset: BigInt(sizeOf(options['offset'] ?? '0')),
      hostAddress: BigInt(base),
    };
    const region = this.#topology.createRegion({ kind: 'ram', name, size: block.size, block });
    this.#regions.set(key, region);
    return region;
  }

  /** The memory of a device: the same file as long as QEMU has it at the same place; none if it cannot be shared. */
  backend(options: RecordedObject, hostAddress: number): RamBackend {
    const { id = '', type = '', share } = options;
    const size = BigInt(sizeOf(options['size'] ?? '0'));
    const isPrivate = type === 'memory-backend-ram' && share !== 'on';
    const pageSize = pageSizeOf(options);
    const backend = createRamBackend(this.#topology, {
      id,
      size,
      pageSize,
      alignment: BigInt(
        Math.max(isPrivate ? ANONYMOUS_ALIGNMENT : pageSize, sizeOf(options['align'] ?? '0')),
      ),
      block: {
        ...(isPrivate ? {} : { fd: this.#file(`${id}@${hostAddress}`) }),
        fdOffset: BigInt(sizeOf(options['offset'] ?? '0')),
        hostAddress: BigInt(hostAddress),
      },
    });
    if (options['readonly'] === 'on') backend.region.setReadonly(true);
    return backend;
  }

  #file(key: string): number {
    const known = this.#files.get(key);
    if (known !== undefined) return known;
    const { fd } = this.#owned.use(new OwnedFd(createMemfd(key, 4096)));
    this.#files.set(key, fd);
    return fd;
  }

  #isCutIntoMemslots(memdev: string): boolean {
    return this.#recording.objects.some(
      (options) => options['memdev'] === memdev && options['dynamic-memslots'] === 'on',
    );
  }
}

/** What QEMU makes large anonymous memory begin at multiples of. */
const ANONYMOUS_ALIGNMENT = 2 * MiB;

const pageSizeOf = (options: RecordedObject): number =>
  sizeOf(options['hugetlb'] === 'on' ? (options['hugetlbsize'] ?? '2M') : '4K');

/** `2147483648`, `0x1000`, `2G`. */
export function sizeOf(text: string): number {
  const [, digits, unit = ''] = /^(0x[\da-f]+|\d+)([KMGT]?)/i.exec(text) ?? [];
  return Number(digits ?? 0) * 1024 ** ' KMGT'.indexOf(unit.toUpperCase() || ' ');
}
