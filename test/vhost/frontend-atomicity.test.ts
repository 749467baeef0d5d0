/**
 * No memory slot is touched that does not change: random operations of memory devices go through the memory model and the front-end to our own
 * back-end, and what passes on the socket is decoded. Each operation may remove what was there before and is not after, and add what is
 * there after and was not before: each once, nothing else. Then the back-end has mapped what the flat view shows.
 *
 *     ATOMICITY_OPERATIONS=100000 ATOMICITY_SEED=7
 */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { FrontendRequest, VhostUserHeader } from '../../protocol/vhost-user.ts';
import { SingleRegion } from '../../protocol/vhost-user-payloads.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { EventLoop } from '../../src/host/epoll.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { Cleanup, OwnedFd } from '../../src/host/owned-fd.ts';
import { socketPair } from '../../src/host/unix-socket.ts';
import { sectionOf } from '../../src/memory/listener.ts';
import type { RamBlock } from '../../src/memory/ram-block.ts';
import type { MemoryRegion } from '../../src/memory/region.ts';
import { PcDimm } from '../../src/memory-devices/pc-dimm.ts';
import { PcMemory } from '../../src/memory-devices/pc-memory.ts';
import { createRamBackend, type RamBackend } from '../../src/memory-devices/ram-backend.ts';
import { foldSections, isVhostSection } from '../../src/memory-devices/vhost-sections.ts';
import { VirtioMem } from '../../src/memory-devices/virtio-mem.ts';
import { GiB, MiB } from '../../src/units.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import { DeviceFrontend } from '../../src/vhost/frontend-device.ts';
import { Relay } from '../../src/vhost/relay.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';
import { openFds } from './rig.ts';

const OPERATIONS = Number(process.env['ATOMICITY_OPERATIONS'] ?? 1500);
const SEED = Number(process.env['ATOMICITY_SEED'] ?? 1);
/** Above memory devices: where aliases are shown. */
const ALIASES = 1n << 40n;
const ALIAS_SIZE = 0x10_0000n;
const FILE_SIZE = 32 * GiB;

/** The same numbers for the same seed. */
class Dice {
  #state: number;

  constructor(seed: number) {
    this.#state = seed;
  }

  /** 0 … `sides` − 1. */
  readonly roll = (sides: number): number => {
    this.#state = (Math.imul(this.#state, 1_664_525) + 1_013_904_223) >>> 0;
    return Math.floor((this.#state / 2 ** 32) * sides);
  };
}

/** A PC with two virtio-mem devices, four modules and aliases; a started device; and all that passes between it and its back-end. */
class AtomicityRig implements Disposable {
  readonly device: DeviceFrontend;
  /** `ADD 0x0+0x1000@0x7f00`: since the last `take`. */
  readonly #sent: string[] = [];
  readonly #owned = new Cleanup();
  readonly #backend = new InProcessBackend(new PaperFileSystem());
  readonly #memory: PcMemory;
  readonly #virtioMems: readonly VirtioMem[];
  readonly #modules: readonly PcDimm[];
  readonly #plugged = new Set<PcDimm>();
  readonly #aliases: readonly MemoryRegion[];
  readonly #loop = new EventLoop();
  readonly #dice: Dice;
  #blocks = 0;

  constructor(seed: number) {
    this.#dice = new Dice(seed);
    this.#owned.use(this.#backend);
    this.#owned.use(this.#loop);
    this.#memory = new PcMemory({
      ram: [{ id: 'ram', size: BigInt(256 * MiB), block: this.#shared() }],
      maxmem: BigInt(64 * GiB),
      dimmSlots: 4,
    });
    this.#memory.connect('fs0', 509);
    const { devices, topology, dimmSlots: slots } = this.#memory;
    const vms = [{ size: 16 * GiB }, { size: 8 * GiB, blockSize: 256 * MiB }];
    this.#virtioMems = vms.map(({ size, ...options }, index) => {
      const backend = this.#ram(`vm${index}`, size);
      const vm = new VirtioMem({ id: `vm${index}`, backend, dynamicMemslots: true, ...options });
      vm.setRequestedSize(size);
      devices.add(vm);
      return vm;
    });
    this.#modules = [128, 256, 512, 1024].map(
      (size, index) =>
        new PcDimm({ id: `dimm${index}`, backend: this.#ram(`dimm${index}`, size * MiB), slots }),
    );
    const target = this.#ram('shown', 64 * MiB).region;
    // neighbours of one region, some of which fold into one slot
    this.#aliases = Array.from({ length: 16 }, (_, index) => {
      const alias = topology.createRegion({
        kind: 'alias',
        name: `alias${index}`,
        target,
        offset: ALIAS_SIZE * BigInt(index),
        size: ALIAS_SIZE,
      });
      alias.setUnmergeable(index % 4 === 0);
      this.#memory.system.addSubregion(ALIASES + ALIAS_SIZE * BigInt(index), alias);
      return alias;
    });
    this.device = this.#connect();
  }

  /** One operation. @returns what it was */
  operate(): string {
    const roll = this.#dice.roll;
    const { topology } = this.#memory;
    const kind = roll(20);
    if (kind < 8) return this.#request();
    if (kind < 12) return this.#replace();
    if (kind < 16) return this.#toggleAlias();
    if (kind === 16) return this.#restart();
    if (kind === 17) {
      const vm = this.#virtioMems[roll(2)]!;
      vm.unplugAll();
      return `unplug all of ${vm.id}`;
    }
    const steps: string[] = [];
    topology.begin();
    try {
      for (let count = 2 + roll(3); count > 0; count -= 1) steps.push(this.#step(roll(3)));
    } finally {
      topology.commit();
    }
    return steps.join(' and ');
  }

  #step(kind: number): string {
    if (kind === 0) return this.#request();
    return kind === 1 ? this.#replace() : this.#toggleAlias();
  }

  /** What a back-end should have: from the flat view, not from what the front-end keeps. */
  get wanted(): string[] {
    const { view } = this.#memory.space;
    const sections = view.ranges.map((range) => sectionOf(range, view)).filter(isVhostSection);
    return foldSections(sections).map(({ section, start, size, offset }) =>
      nameOf(start, size, section.region.block!.hostAddress! + offset),
    );
  }

  /** What the back-end has mapped. */
  get mapped(): string[] {
    return this.#backend.memory.regions.map(({ guestPhysAddr, memorySize, userspaceAddr }) =>
      nameOf(guestPhysAddr, memorySize, userspaceAddr),
    );
  }

  /** Memory messages since the last time. */
  take(): string[] {
    return this.#sent.splice(0);
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  /** Some blocks of a virtio-mem device, plugged or unplugged; rather few memslots are full, rather many are empty. */
  #request(): string {
    const roll = this.#dice.roll;
    const vm = this.#virtioMems[roll(2)]!;
    const total = vm.regionSize / vm.blockSize;
    const first = roll(total);
    const blocks = 1 + roll(Math.min(total - first, total >> 2));
    const address = Number(vm.address) + first * vm.blockSize;
    const isPlug = roll(2) === 0;
    const answer = isPlug ? vm.plug(address, blocks) : vm.unplug(address, blocks);
    return `${isPlug ? 'plug' : 'unplug'} ${blocks} at ${first} of ${vm.id}: ${answer}`;
  }

  /** A module comes or goes. */
  #replace(): string {
    const module = this.#modules[this.#dice.roll(4)]!;
    if (this.#plugged.delete(module)) {
      this.#memory.devices.unplug(module);
      return `unplug ${module.id}`;
    }
    this.#memory.devices.add(module);
    this.#plugged.add(module);
    return `plug ${module.id}`;
  }

  #toggleAlias(): string {
    const alias = this.#aliases[this.#dice.roll(16)]!;
    alias.setEnabled(!alias.enabled);
    return `${alias.name} ${alias.enabled ? 'shown' : 'hidden'}`;
  }

  /** Stops the device, changes memory, starts it: the difference is told. */
  #restart(): string {
    this.device.stop();
    const steps = [this.#request(), this.#replace(), this.#toggleAlias()];
    this.#start(this.device);
    return `stop, ${steps.join(', ')}, start`;
  }

  #connect(): DeviceFrontend {
    const [toBackend, front] = socketPair();
    this.#owned.use(
      new Relay({
        front,
        back: this.#backend.socket,
        loop: this.#loop,
        describe: () => ({ kind: 'any' }),
        onFrame: (_, direction, { octets }) => {
          if (direction === 'fe>be') this.#note(octets);
        },
        onEnd: () => undefined,
      }),
    );
    const wait = (): void => {
      this.#loop.runOnce(0);
      this.#backend.turn();
      this.#loop.runOnce(0);
    };
    const notifiers = [0, 1].map(() => ({ maskedFd: this.#eventfd(), errorFd: this.#eventfd() }));
    const device = this.#owned.use(
      new DeviceFrontend(new VhostUserFrontend(toBackend, { wait }), { name: 'fs0', notifiers }),
    );
    device.connect();
    this.#memory.space.addListener(device.listener);
    this.#start(device);
    return device;
  }

  #start(device: DeviceFrontend): void {
    const queues = [0n, 1n].map((index) => ({
      num: 16,
      descGpa: 0x1000n * index,
      availGpa: 0x1000n * index + 0x100n,
      usedGpa: 0x1000n * index + 0x200n,
      kickFd: this.#kicks[0]!,
      callFd: this.#kicks[1]!,
    }));
    device.start({ features: device.features, queues });
  }

  readonly #kicks = [0, 1].map(() => this.#eventfd());

  #note(octets: Uint8Array): void {
    const { request } = VhostUserHeader.decode(octets);
    if (request === FrontendRequest.SET_MEM_TABLE) this.#sent.push('TABLE');
    if (request !== FrontendRequest.ADD_MEM_REG && request !== FrontendRequest.REM_MEM_REG) return;
    const { guestPhysAddr, memorySize, userspaceAddr } = SingleRegion.decode(
      octets.subarray(VhostUserHeader.size),
    ).region;
    const verb = request === FrontendRequest.ADD_MEM_REG ? 'ADD' : 'REM';
    this.#sent.push(`${verb} ${nameOf(guestPhysAddr, memorySize, userspaceAddr)}`);
  }

  #ram(id: string, size: number): RamBackend {
    return createRamBackend(this.#memory.topology, { id, size: BigInt(size), block: this.#shared() });
  }

  /** A file of its own, at a user address of its own. */
  #shared(): Partial<RamBlock> {
    this.#blocks += 1;
    const { fd } = this.#owned.use(new OwnedFd(createMemfd('ram', FILE_SIZE)));
    return { fd, hostAddress: BigInt(this.#blocks) << 40n, isShared: true };
  }

  #eventfd(): number {
    return this.#owned.use(new OwnedFd(createEventfd())).fd;
  }
}

const nameOf = (start: bigint, size: bigint, userAddress: bigint): string =>
  `0x${start.toString(16)}+0x${size.toString(16)}@0x${userAddress.toString(16)}`;

let before = 0;
beforeEach(() => (before = openFds()));
afterEach(() => {
  expect(openFds()).toBe(before);
});

test(
  `${OPERATIONS} random operations (seed ${SEED}): only slots that change are named, and the back-end has what the flat view shows`,
  { timeout: 10_000 + OPERATIONS * 10 },
  () => {
    using rig = new AtomicityRig(SEED);
    rig.take();
    let was = new Set(rig.wanted);
    let messages = 0;
    for (let count = 0; count < OPERATIONS; count += 1) {
      const what = `${count}: ${rig.operate()}`;
      const wanted = rig.wanted;
      const now = new Set(wanted);
      const sent = rig.take();
      messages += sent.length;
      const removed = [...was].filter((region) => !now.has(region)).map((region) => `REM ${region}`);
      const added = wanted.filter((region) => !was.has(region)).map((region) => `ADD ${region}`);
      expect(sent.toSorted(), what).toEqual([...removed, ...added].toSorted());
      expect(sent.slice(removed.length), what).toEqual(added); // after the removals, by address
      expect(rig.mapped, what).toEqual(wanted);
      was = now;
    }
    expect(messages).toBeGreaterThan(OPERATIONS / 2);
    if (process.env['ATOMICITY_OPERATIONS'] !== undefined)
      console.log(`${OPERATIONS} operations, ${messages} messages, seed ${SEED}`);
  },
);
