import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { maskOf } from '../../protocol/bits.ts';
import {
  VirtioMemConfig,
  VirtioMemFeature,
  VirtioMemReq,
  VirtioMemRequestType,
  VirtioMemResp,
  VirtioMemResponseType,
  VirtioMemState,
} from '../../protocol/virtio-mem.ts';
import { DiscardPolicy } from '../../src/memory-devices/discard-policy.ts';
import { PinningListener } from '../../src/memory-devices/pinning-listener.ts';
import type { PcMemory } from '../../src/memory-devices/pc-memory.ts';
import type { BackingMemory } from '../../src/memory-devices/ram-backend.ts';
import type { VirtioMemOptions } from '../../src/memory-devices/virtio-mem-options.ts';
import { configSpaceOf, serveVirtioMem } from '../../src/memory-devices/virtio-mem-requests.ts';
import { VIRTIO_MEM_USABLE_EXTENT, VirtioMem } from '../../src/memory-devices/virtio-mem.ts';
import { GiB, MiB } from '../../src/units.ts';
import { backend, codeOf, pc, recordDiscards, recordSections, WINDOW } from './rig.ts';

const { ACK, NACK, BUSY, ERROR } = VirtioMemResponseType;
const BLOCK = 2 * MiB;

interface Made {
  readonly machine: PcMemory;
  readonly device: VirtioMem;
}

function make(size: number, options: Partial<VirtioMemOptions> & { memory?: BackingMemory } = {}): Made {
  const machine = pc(size);
  const { memory, ...rest } = options;
  const device = new VirtioMem({ backend: backend(machine, size, memory), requestedSize: size, ...rest });
  machine.devices.add(device);
  return { machine, device };
}

describe('a request', () => {
  test('plugs and unplugs blocks, and the sizes follow', () => {
    const { device, machine } = make(GiB);
    const sizes: number[] = [];
    device.onSizeChange = (size) => sizes.push(size);
    expect(device.plug(WINDOW, 4)).toBe(ACK);
    expect(device.plug(WINDOW + 8 * BLOCK, 1)).toBe(ACK);
    expect(device.unplug(WINDOW + BLOCK, 2)).toBe(ACK);
    expect(sizes).toEqual([4 * BLOCK, 5 * BLOCK, 3 * BLOCK]);
    expect(machine.devices.pluggedSize).toBe(BigInt(3 * BLOCK));
  });

  test.each<[string, number, number]>([
    ['misaligned', WINDOW + MiB, 1],
    ['no blocks', WINDOW, 0],
    ['before the device', WINDOW - BLOCK, 1],
    ['beyond the usable size', WINDOW + GiB, 1],
    ['across the end of the usable size', WINDOW + GiB - BLOCK, 2],
    ['far beyond', Number(0xffff_ffff_ffff_f000n), 1],
  ])('for a range that is %s is an error of every type', (_, address, blocks) => {
    const { device } = make(GiB);
    expect([device.plug(address, blocks), device.unplug(address, blocks)]).toEqual([ERROR, ERROR]);
    expect(device.stateOf(address, blocks)).toBe(-1);
  });

  test('to plug beyond the requested size is not granted, even in a bad range of blocks', () => {
    const { device } = make(GiB, { requestedSize: 2 * BLOCK });
    expect(device.plug(WINDOW, 3)).toBe(NACK);
    expect(device.plug(WINDOW, 2)).toBe(ACK);
    expect(device.plug(WINDOW, 1)).toBe(NACK);
  });

  test('for blocks that are partly in the wanted state is an error', () => {
    const { device } = make(GiB);
    device.plug(WINDOW, 1);
    expect(device.plug(WINDOW, 2)).toBe(ERROR);
    expect(device.unplug(WINDOW, 2)).toBe(ERROR);
    expect(device.size).toBe(BLOCK);
  });

  test('to a device that is not plugged is an error, and maps nothing', () => {
    const machine = pc(GiB);
    const device = new VirtioMem({
      backend: backend(machine, GiB),
      dynamicMemslots: true,
      requestedSize: GiB,
    });
    expect([device.plug(0, 1), device.unplug(0, 1), device.stateOf(0, 1)]).toEqual([ERROR, ERROR, -1]);
    expect(device.unplugAll()).toBe(ACK);
    expect(device.size).toBe(0);
  });

  test('asks for the state of blocks', () => {
    const { device } = make(GiB);
    device.plug(WINDOW, 1);
    expect([1, 2].map((blocks) => device.stateOf(WINDOW, blocks))).toEqual([
      VirtioMemState.PLUGGED,
      VirtioMemState.MIXED,
    ]);
    expect(device.stateOf(WINDOW + BLOCK, 3)).toBe(VirtioMemState.UNPLUGGED);
  });

  test('is answered BUSY while memory must not change', () => {
    let isBusy = false;
    const { device } = make(GiB, { isBusy: () => isBusy });
    device.plug(WINDOW, 1);
    isBusy = true;
    expect([device.plug(WINDOW + BLOCK, 1), device.unplug(WINDOW, 1), device.unplugAll()]).toEqual([
      BUSY,
      BUSY,
      BUSY,
    ]);
    expect(device.size).toBe(BLOCK);
    expect(device.stateOf(WINDOW, 1)).toBe(VirtioMemState.PLUGGED);
  });

  test('to unplug is BUSY when the host does not take the memory back, and nobody hears of it', () => {
    const { device, machine } = make(GiB, { memory: { discard: () => -12 } });
    device.plug(WINDOW, 1);
    const pinning = new PinningListener();
    machine.space.addListener(pinning);
    expect(device.unplug(WINDOW, 1)).toBe(BUSY);
    expect(device.unplugAll()).toBe(BUSY);
    expect(pinning.pinnedBytes).toBe(BigInt(512 * MiB + BLOCK)); // RAM and the block
  });

  test('to plug is BUSY when the host has no memory, and what it took is given back', () => {
    const calls: string[] = [];
    const memory: BackingMemory = {
      preallocate: (offset, size) => (calls.push(`allocate ${offset / BLOCK}+${size / BLOCK}`), -12),
      discard: (offset, size) => (calls.push(`discard ${offset / BLOCK}+${size / BLOCK}`), 0),
    };
    const { device, machine } = make(4 * GiB, { dynamicMemslots: true, preallocate: true, memory });
    const heard = recordSections(machine);
    expect(device.plug(WINDOW + 3 * BLOCK, 2)).toBe(BUSY);
    expect(calls).toEqual(['allocate 3+2', 'discard 3+2']);
    expect(heard).toEqual([]);
    expect(device.size).toBe(0);
  });
});

describe('the usable size', () => {
  test('leaves what is plugged usable when less is requested', () => {
    const { device } = make(GiB);
    device.plug(WINDOW, 256);
    device.setRequestedSize(BLOCK);
    expect([device.size, device.usableSize]).toEqual([512 * MiB, GiB]);
    expect(device.plug(WINDOW + 512 * MiB, 1)).toBe(NACK);
    expect(device.unplug(WINDOW + BLOCK, 255)).toBe(ACK);
  });

  test('is 256 MiB more than requested, and grows at once but shrinks only when all is unplugged', () => {
    const { device } = make(GiB, { requestedSize: 0 });
    expect(device.usableSize).toBe(0);
    device.setRequestedSize(512 * MiB);
    expect(device.usableSize).toBe(512 * MiB + VIRTIO_MEM_USABLE_EXTENT);
    device.setRequestedSize(BLOCK);
    expect(device.usableSize).toBe(512 * MiB + VIRTIO_MEM_USABLE_EXTENT);
    device.unplugAll();
    expect(device.usableSize).toBe(BLOCK + VIRTIO_MEM_USABLE_EXTENT);
    device.setRequestedSize(0);
    device.unplugAll();
    expect(device.usableSize).toBe(0);
  });

  test('is not more than there is, and whole blocks', () => {
    expect(make(GiB).device.usableSize).toBe(GiB);
    const { device } = make(4 * GiB, { blockSize: 512 * MiB, requestedSize: 512 * MiB });
    expect(device.usableSize).toBe(GiB);
  });
});

describe('properties', () => {
  test.each<[string, Partial<VirtioMemOptions>, string]>([
    ['a block that is too small', { blockSize: MiB / 2 }, 'BAD_PROPERTY'],
    ['a block that is no power of two', { blockSize: 3 * MiB }, 'BAD_PROPERTY'],
    ['memory that is not whole blocks', { blockSize: 4 * GiB }, 'SIZE'],
    ['more than there is', { requestedSize: GiB + BLOCK }, 'BAD_PROPERTY'],
    ['less than nothing', { requestedSize: -BLOCK }, 'BAD_PROPERTY'],
    ['a part of a block', { requestedSize: MiB }, 'BAD_PROPERTY'],
    [
      'memslots the guest could reach unplugged',
      { dynamicMemslots: true, unpluggedInaccessible: false },
      'BAD_PROPERTY',
    ],
  ])('%s is refused', (_, options, code) => {
    const machine = pc(8 * GiB);
    const memory = backend(machine, GiB);
    expect(codeOf(() => machine.devices.add(new VirtioMem({ backend: memory, ...options })))).toBe(code);
    expect(machine.devices.describe()).toEqual([]);
  });

  test('memory of another device is refused, until that is gone', () => {
    const machine = pc(GiB);
    const memory = backend(machine, GiB);
    const device = new VirtioMem({ backend: memory });
    expect(codeOf(() => new VirtioMem({ backend: memory }))).toBe('BACKEND_BUSY');
    device.unrealize();
    expect(codeOf(() => new VirtioMem({ backend: memory }))).toBeUndefined();
  });

  test('a requested size that cannot be is refused, and the driver hears nothing', () => {
    const { device } = make(GiB);
    let changes = 0;
    device.onConfigChange = () => (changes += 1);
    expect(codeOf(() => device.setRequestedSize(2 * GiB))).toBe('BAD_PROPERTY');
    expect(codeOf(() => device.setRequestedSize(MiB))).toBe('BAD_PROPERTY');
    expect([device.requestedSize, changes]).toEqual([GiB, 0]);
    device.setRequestedSize(GiB); // the same: told all the same
    expect(changes).toBe(1);
  });

  test('a machine that forbids discarding has no virtio-mem', () => {
    const machine = pc(GiB);
    const discardPolicy = new DiscardPolicy();
    const release = discardPolicy.disable();
    const options = { backend: backend(machine, GiB), discardPolicy };
    expect(codeOf(() => new VirtioMem(options))).toBe('DISCARD_DISABLED');
    release();
    const device = new VirtioMem(options);
    expect(codeOf(() => discardPolicy.disable())).toBe('DISCARD_DISABLED');
    expect(codeOf(() => discardPolicy.disableUncoordinated()())).toBeUndefined();
    device.unrealize();
    expect(codeOf(() => discardPolicy.disable())).toBeUndefined();
  });
});

describe('the driver', () => {
  const ask = (device: VirtioMem, type: number, addr = 0, nbBlocks = 0): Uint8Array => {
    const response = new Uint8Array(16);
    const written = serveVirtioMem(
      device,
      VirtioMemReq.encode({ type, addr: BigInt(addr), nbBlocks }),
      response,
    );
    return response.slice(0, written);
  };

  test('gets a response for each type of request', () => {
    const { device } = make(GiB);
    const { PLUG, UNPLUG, UNPLUG_ALL, STATE } = VirtioMemRequestType;
    const responses = [
      ask(device, PLUG, WINDOW, 2),
      ask(device, STATE, WINDOW, 3),
      ask(device, UNPLUG, WINDOW, 1),
      ask(device, UNPLUG_ALL),
      ask(device, STATE, WINDOW, 0),
    ];
    expect(responses.map((bytes) => VirtioMemResp.decode(bytes))).toEqual([
      { type: ACK, state: 0 },
      { type: ACK, state: VirtioMemState.MIXED },
      { type: ACK, state: 0 },
      { type: ACK, state: 0 },
      { type: ERROR, state: 0 },
    ]);
  });

  test('breaks the device with a request that is short or unknown', () => {
    const { device } = make(GiB);
    expect(codeOf(() => ask(device, 4))).toBe('BAD_REQUEST');
    expect(codeOf(() => serveVirtioMem(device, new Uint8Array(23), new Uint8Array(10)))).toBe('BAD_REQUEST');
    expect(codeOf(() => serveVirtioMem(device, new Uint8Array(24), new Uint8Array(9)))).toBe('BAD_REQUEST');
  });

  test('any bytes are answered or refused, and never more is plugged than requested', () => {
    const { device } = make(GiB, { requestedSize: 512 * MiB });
    fc.assert(
      fc.property(fc.uint8Array({ minLength: 0, maxLength: 40 }), (bytes) => {
        expect([undefined, 'BAD_REQUEST']).toContain(
          codeOf(() => serveVirtioMem(device, bytes, new Uint8Array(10))),
        );
        expect(device.size).toBeLessThanOrEqual(512 * MiB);
      }),
    );
  });

  test('reads the configuration', () => {
    const { device } = make(GiB, { requestedSize: 4 * BLOCK, node: 1 });
    device.plug(WINDOW, 1);
    expect(VirtioMemConfig.decode(configSpaceOf(device))).toMatchObject({
      blockSize: BigInt(BLOCK),
      nodeId: 1,
      addr: BigInt(WINDOW),
      regionSize: BigInt(GiB),
      usableRegionSize: BigInt(4 * BLOCK + VIRTIO_MEM_USABLE_EXTENT),
      pluggedSize: BigInt(BLOCK),
      requestedSize: BigInt(4 * BLOCK),
    });
  });

  test('must know that unplugged memory is not there', () => {
    const { device } = make(GiB, { hasNodes: true });
    const { UNPLUGGED_INACCESSIBLE, ACPI_PXM, PERSISTENT_SUSPEND } = VirtioMemFeature;
    expect(device.features).toBe(maskOf(UNPLUGGED_INACCESSIBLE, ACPI_PXM, PERSISTENT_SUSPEND));
    expect([device.acceptsFeatures(0n), device.acceptsFeatures(maskOf(UNPLUGGED_INACCESSIBLE))]).toEqual([
      false,
      true,
    ]);
    expect(make(GiB, { unpluggedInaccessible: false }).device.acceptsFeatures(0n)).toBe(true);
  });
});

describe('dynamic memslots', () => {
  test('are mapped by the first block and unmapped by the last, each alone', () => {
    const { device, machine } = make(4 * GiB, { dynamicMemslots: true });
    const heard = recordSections(machine);
    device.plug(WINDOW + GiB, 1);
    device.plug(WINDOW + GiB + BLOCK, 1);
    device.plug(WINDOW, 1);
    device.unplug(WINDOW + GiB, 1);
    device.unplug(WINDOW + GiB + BLOCK, 1);
    expect(heard).toEqual([
      'add 0x140000000+0x40000000',
      'add 0x100000000+0x40000000',
      'del 0x140000000+0x40000000',
    ]);
  });

  test('that one request touches come and go in one commit', () => {
    const { device, machine } = make(4 * GiB, { dynamicMemslots: true });
    const heard = recordSections(machine);
    let commits = 0;
    machine.space.addListener({ commit: () => (commits += 1) });
    commits = 0;
    device.plug(WINDOW + GiB - BLOCK, 2);
    device.unplug(WINDOW + GiB - BLOCK, 2);
    expect(commits).toBe(2);
    expect(heard).toHaveLength(4);
  });

  test('end with a shorter one', () => {
    const { device } = make(2 * GiB + 128 * MiB, { dynamicMemslots: true });
    const slots = device.dynamicMemslots!;
    expect(slots.layout).toEqual({ size: 2 * GiB + 128 * MiB, memslots: 3, memslotSize: GiB });
    device.plug(WINDOW + 2 * GiB, 1);
    expect([slots.mapped, slots.isMapped(2)]).toEqual([1, true]);
  });

  test('without them all of it is mapped, whatever is plugged', () => {
    const { device, machine } = make(4 * GiB);
    const heard = recordSections(machine);
    device.plug(WINDOW, 64);
    device.unplugAll();
    expect(heard).toEqual([]);
    expect(machine.budget).toMatchObject({ required: 1, mapped: 1, reserved: 0 });
  });

  test('are all gone after a reset, and unplugging is possible then', () => {
    const { device, machine } = make(4 * GiB, { dynamicMemslots: true });
    device.plug(WINDOW, 1024);
    expect(codeOf(() => machine.devices.unplug(device))).toBe('STILL_IN_USE');
    device.systemReset();
    expect([device.size, device.dynamicMemslots!.mapped]).toEqual([0, 0]);
    expect(codeOf(() => machine.devices.unplug(device))).toBe('STILL_IN_USE'); // still requested
    device.setRequestedSize(0);
    machine.devices.unplug(device);
    expect(machine.devices.describe()).toEqual([]);
  });

  test('a listener that objects undoes the memslot, too', () => {
    const { device, machine } = make(4 * GiB, { dynamicMemslots: true });
    const heard = recordSections(machine);
    machine.space.addListener(new PinningListener({ maxMappings: 4 })); // 1 for RAM
    expect(device.plug(WINDOW, 4)).toBe(BUSY);
    expect(heard).toEqual(['add 0x100000000+0x40000000', 'del 0x100000000+0x40000000']);
    expect(device.plug(WINDOW, 3)).toBe(ACK);
    expect(device.size).toBe(3 * BLOCK);
  });
});

describe('any sequence of requests', () => {
  const BLOCKS = 48;
  const LARGE = 256 * MiB; // 4 blocks in a memslot of 1 GiB
  const command = fc.oneof(
    fc.record({
      kind: fc.constantFrom('plug' as const, 'unplug' as const, 'state' as const),
      at: fc.integer({ min: -1, max: BLOCKS }),
      blocks: fc.integer({ min: 0, max: 9 }),
    }),
    fc.record({ kind: fc.constant('request' as const), at: fc.nat(BLOCKS), blocks: fc.constant(0) }),
    fc.record({
      kind: fc.constantFrom('unplugAll' as const, 'reset' as const),
      at: fc.constant(0),
      blocks: fc.constant(0),
    }),
  );

  /** A byte for each block, and nothing clever. */
  class Naive {
    readonly plugged = new Uint8Array(BLOCKS);
    requested = 0;
    usable = 0;
    get size(): number {
      return this.plugged.reduce((sum, each) => sum + each, 0);
    }
    request(blocks: number): void {
      this.requested = blocks;
      this.usable = Math.max(this.usable, this.#usableFor(blocks));
    }
    change(kind: 'plug' | 'unplug', at: number, blocks: number): number {
      if (!this.isUsable(at, blocks)) return ERROR;
      if (kind === 'plug' && this.size + blocks > this.requested) return NACK;
      const wanted = kind === 'plug' ? 1 : 0;
      if (this.plugged.subarray(at, at + blocks).includes(wanted)) return ERROR;
      this.plugged.fill(wanted, at, at + blocks);
      return ACK;
    }
    unplugAll(): number {
      this.plugged.fill(0);
      this.usable = this.#usableFor(this.requested);
      return ACK;
    }
    isUsable = (at: number, blocks: number): boolean => blocks > 0 && at >= 0 && at + blocks <= this.usable;
    #usableFor = (blocks: number): number => (blocks === 0 ? 0 : Math.min(BLOCKS, blocks + 1));
  }

  test.each([true, false])('is answered as by a map of bytes, dynamic memslots: %s', (dynamicMemslots) => {
    fc.assert(
      fc.property(fc.array(command, { maxLength: 60 }), (commands) => {
        const { device, machine } = make(BLOCKS * LARGE, {
          dynamicMemslots,
          blockSize: LARGE,
          requestedSize: 0,
        });
        const naive = new Naive();
        const pinning = new PinningListener();
        machine.space.addListener(pinning);
        const ram = pinning.pinnedBytes;
        const heard = recordSections(machine);
        const mapped = new Set<number>();
        for (const { kind, at, blocks } of commands) {
          const address = WINDOW + at * LARGE;
          if (kind === 'request') {
            device.setRequestedSize(at * LARGE);
            naive.request(at);
          } else if (kind === 'state') {
            const part = naive.plugged.subarray(at, at + blocks);
            const expected = part.every((each) => each === 1) ? 0 : part.includes(1) ? 2 : 1;
            expect(device.stateOf(address, blocks)).toBe(naive.isUsable(at, blocks) ? expected : -1);
          } else if (kind === 'plug' || kind === 'unplug') {
            expect(device[kind](address, blocks)).toBe(naive.change(kind, at, blocks));
          } else {
            expect(kind === 'reset' ? device.systemReset() : device.unplugAll()).toBe(
              kind === 'reset' ? (naive.unplugAll(), undefined) : naive.unplugAll(),
            );
          }
          expect([device.size, device.usableSize]).toEqual([naive.size * LARGE, naive.usable * LARGE]);
          expect(pinning.pinnedBytes - ram).toBe(BigInt(device.size));
          // Only memslots whose need has changed are named, in address order of dels, then adds.
          const needed = new Set<number>();
          naive.plugged.forEach((each, block) => each === 1 && dynamicMemslots && needed.add(block >>> 2));
          const gib = (verb: string, slot: number): string =>
            `${verb} 0x${(WINDOW + slot * GiB).toString(16)}+0x40000000`;
          const expected = [
            ...[...mapped]
              .filter((slot) => !needed.has(slot))
              .sort((a, b) => a - b)
              .map((slot) => gib('del', slot)),
            ...[...needed].filter((slot) => !mapped.has(slot)).map((slot) => gib('add', slot)),
          ];
          expect(heard.splice(0)).toEqual(expected);
          mapped.clear();
          for (const slot of needed) mapped.add(slot);
        }
        naive.plugged.forEach((each, block) => {
          expect(pinning.isPinned(BigInt(WINDOW + block * LARGE))).toBe(each === 1);
        });
      }),
      { numRuns: 100 },
    );
  });

  test('of two devices never names the other’s memslots', () => {
    const machine = pc(16 * GiB);
    const [one, two] = [0, 1].map((index) => {
      const memory = backend(machine, 8 * GiB);
      const device = new VirtioMem({
        id: `vm${index}`,
        backend: memory,
        dynamicMemslots: true,
        requestedSize: 8 * GiB,
      });
      machine.devices.add(device);
      return device;
    }) as [VirtioMem, VirtioMem];
    two.plug(WINDOW + 8 * GiB, 4096);
    const heard = recordSections(machine);
    one.plug(WINDOW, 4096);
    one.unplug(WINDOW + GiB, 512);
    one.unplugAll();
    expect(heard).toHaveLength(8 + 1 + 7);
    expect(heard.every((line) => Number(/0x[0-9a-f]+/.exec(line)![0]) < WINDOW + 8 * GiB)).toBe(true);
  });
});

test('1 TiB in 2 MiB blocks and 256 memslots: plugging all and unplugging all takes less than 32 MiB', () => {
  const TIB = 1024 * GiB;
  const heapBefore = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers;
  const machine = pc(TIB);
  machine.connect('fs', 509);
  const device = new VirtioMem({ backend: backend(machine, TIB), dynamicMemslots: true, requestedSize: TIB });
  machine.devices.add(device);
  expect(device.memslots()).toBe(256);
  const step = 64 * BLOCK; // what Linux asks for at once: a memory block of 128 MiB
  for (let at = 0; at < TIB; at += step) expect(device.plug(WINDOW + at, 64)).toBe(ACK);
  expect(device.dynamicMemslots!.mapped).toBe(256);
  for (let at = TIB - step; at >= 0; at -= step) expect(device.unplug(WINDOW + at, 64)).toBe(ACK);
  expect(device.dynamicMemslots!.mapped).toBe(0);
  const heap = process.memoryUsage().heapUsed + process.memoryUsage().arrayBuffers - heapBefore;
  expect(heap).toBeLessThan(32 * MiB);
});

test('listeners hear of what is plugged in their section only', () => {
  const { device, machine } = make(4 * GiB, { dynamicMemslots: true });
  device.plug(WINDOW, 1);
  device.plug(WINDOW + GiB, 2);
  const heard: string[] = [];
  const section = machine.observer.sections.find(
    (each) => each.offsetWithinAddressSpace === BigInt(WINDOW + GiB),
  )!;
  device.discardManager.registerListener(recordDiscards(heard), section);
  device.plug(WINDOW + BLOCK, 1);
  device.plug(WINDOW + GiB + 8 * MiB, 1);
  expect(heard).toEqual(['populate 1024+4', 'populate 1032+2']);
});
