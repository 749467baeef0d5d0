/** What the load consists of. Each works on a mount that `Mount` has prepared. */
import { EntryOut, AttrOut, OpenOut } from '../../protocol/fuse-attributes.ts';
import { GetattrIn, OpenIn, ReadIn, ReleaseIn, ForgetIn } from '../../protocol/fuse-requests.ts';
import { FUSE_ROOT_ID, FuseOpcode, InHeader } from '../../protocol/fuse.ts';
import { KiB, MiB } from '../../src/units.ts';
import type { GuestQueue } from '../../src/machine/guest-queue.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { Lane, LoadGenerator, type Workload } from './load.ts';

export const FILE = 'bench.bin';
export const FILE_SIZE = 64 * MiB;
export const NAMES = 10_000;
export const nameOf = (index: number): string => `name-${String(index).padStart(6, '0')}`;

const ARGUMENTS = InHeader.size / 4;
const MAX_DEPTH = 32;
const BLOCK = 4 * KiB;

/** A machine with a mount, and an open file to work on. */
export class Mount implements Disposable {
  readonly machine: LoopbackMachine;
  readonly load: LoadGenerator;
  readonly #client: VirtioFsClient;
  readonly #file: { readonly nodeid: number; readonly fh: number };
  readonly #forgets: Forgets;

  /** @param slots memory slots that data buffers are spread over */
  constructor(socket: string, slots: number, slotSize: number) {
    this.machine = LoopbackMachine.start({ socket, baseSize: 16 * MiB, slotSize, slots, indirectEntries: 8 });
    this.#client = new VirtioFsClient(this.machine);
    expectAnswer(this.#client.init(), 'FUSE_INIT');
    const entry = expectAnswer(this.#client.lookup(ROOT, FILE), 'FUSE_LOOKUP');
    const open = expectAnswer(this.#client.open(entry.nodeid, 0), 'FUSE_OPEN');
    this.#file = { nodeid: Number(entry.nodeid), fh: Number(open.fh) };
    this.load = new LoadGenerator(this.machine, this.machine.queues[1]!, MAX_DEPTH);
    this.#forgets = new Forgets(this.machine, this.machine.queues[0]!);
  }

  /** Random reads of 4 KiB, into buffers in the first `slots` slots. */
  randomRead(slots: number): Workload {
    const random = randomNumbers();
    return this.#read(
      `randread4k, ${slots} slots`,
      32,
      BLOCK,
      slots,
      () => (random() % (FILE_SIZE / BLOCK)) * BLOCK,
    );
  }

  /** Reads of 128 KiB, one after the other. */
  sequentialRead(): Workload {
    const size = 128 * KiB;
    let offset = 0;
    return this.#read('seqread128k', 8, size, 1, () => (offset = (offset + size) % FILE_SIZE));
  }

  getattr(): Workload {
    const { nodeid } = this.#file;
    return {
      name: 'getattr',
      depth: 32,
      next: (lane) => {
        lane.prepare(FuseOpcode.GETATTR, nodeid, GetattrIn.size);
        lane.request.fill(0, ARGUMENTS, ARGUMENTS + GetattrIn.size / 4);
        lane.expect(AttrOut.size);
      },
      completed: () => 1,
    };
  }

  /** Lookups of 10,000 names, each given back with a FORGET of its own on the other queue, as Linux does. */
  lookup(): Workload {
    const random = randomNumbers();
    const names = Array.from({ length: NAMES }, (_, i) => Buffer.from(`${nameOf(i)}\0`));
    const size = names[0]!.length;
    return {
      name: 'lookup + forget',
      depth: 32,
      next: (lane) => {
        lane.prepare(FuseOpcode.LOOKUP, FUSE_ROOT_ID, size);
        lane.requestBytes.set(names[random() % NAMES]!, InHeader.size);
        lane.expect(EntryOut.size);
      },
      completed: (lane) => {
        this.#forgets.send(lane.replyU64(EntryOut.offset.nodeid));
        return 1;
      },
    };
  }

  /** OPEN and RELEASE in turn; the pair counts as one operation. */
  openRelease(): Workload {
    const { nodeid } = this.#file;
    return {
      name: 'open + release',
      depth: 32,
      next: (lane) => {
        if (lane.step === 0) {
          lane.prepare(FuseOpcode.OPEN, nodeid, OpenIn.size);
          lane.request.fill(0, ARGUMENTS, ARGUMENTS + OpenIn.size / 4);
          lane.expect(OpenOut.size);
        } else {
          const fh = lane.replyU64(OpenOut.offset.fh);
          lane.prepare(FuseOpcode.RELEASE, nodeid, ReleaseIn.size);
          lane.request.fill(0, ARGUMENTS, ARGUMENTS + ReleaseIn.size / 4);
          lane.setU64(InHeader.size + ReleaseIn.offset.fh, fh);
          lane.expect(0);
        }
        lane.step = 1 - lane.step;
      },
      completed: (lane) => 1 - lane.step,
    };
  }

  [Symbol.dispose](): void {
    this.machine.close();
  }

  #read(name: string, depth: number, size: number, slots: number, nextOffset: () => number): Workload {
    const { nodeid, fh } = this.#file;
    const { slotSize } = this.machine.ram.layout;
    const perSlot = Math.floor(slotSize / size);
    let buffer = 0;
    return {
      name,
      depth,
      next: (lane) => {
        lane.prepare(FuseOpcode.READ, nodeid, ReadIn.size);
        const { request } = lane;
        request.fill(0, ARGUMENTS, ARGUMENTS + ReadIn.size / 4);
        lane.setU64(InHeader.size + ReadIn.offset.fh, fh);
        request[ARGUMENTS + ReadIn.offset.offset / 4] = nextOffset();
        request[ARGUMENTS + ReadIn.offset.size / 4] = size;
        lane.expect(0);
        // Another slot each time, and few pages in each: the guest's page cache is not what is measured.
        buffer += 1;
        const place = (lane.index + 32 * (Math.floor(buffer / slots) % 4)) % perSlot;
        lane.receive(this.machine.ram.slotGpa(buffer % slots) + place * size, size);
      },
      completed: () => 1,
    };
  }
}

/** FORGETs, which nobody answers: sent as descriptors come free. */
class Forgets {
  readonly #queue: GuestQueue;
  readonly #lanes: readonly Lane[];
  #next = 0;

  constructor(machine: LoopbackMachine, queue: GuestQueue) {
    this.#queue = queue;
    this.#lanes = Array.from({ length: queue.driver.num }, (_, i) => new Lane(machine, i));
    queue.driver.disableCalls();
  }

  send(nodeid: number): void {
    const { driver } = this.#queue;
    while (driver.collect() >= 0);
    while (driver.freeDescriptors === 0) if (driver.collect() >= 0) break;
    const lane = this.#lanes[this.#next]!;
    this.#next = (this.#next + 1) % this.#lanes.length;
    lane.prepare(FuseOpcode.FORGET, nodeid, ForgetIn.size);
    lane.setU64(InHeader.size + ForgetIn.offset.nlookup, 1);
    driver.add(lane.gpas, lane.lengths, 1, 1);
    this.#queue.submit();
  }
}

/** A small generator, the same numbers each time. */
function randomNumbers(): () => number {
  let state = 0x9e37_79b9;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    return state >>> 0;
  };
}
