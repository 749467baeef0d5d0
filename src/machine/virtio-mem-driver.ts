/**
 * The guest's driver of a virtio-mem device, which does what Linux does: it adds and removes memory in memory blocks of the kernel,
 * of which the device's blocks are parts, or several of which a device's block is.
 *
 *     plug     first the gaps of memory blocks that are partly plugged, then new memory blocks, from the start
 *     unplug   first memory blocks that are partly plugged, then whole ones, from the end
 *
 * The order of requests is that of Linux 6.12; recordings of it are the test.
 */
import {
  VirtioMemConfig,
  VirtioMemReq,
  VirtioMemRequestType,
  VirtioMemResp,
  VirtioMemResponseType,
} from '../../protocol/virtio-mem.ts';
import { MiB } from '../units.ts';

/** The device, as the driver reaches it. */
export interface VirtioMemLink {
  /** The configuration space, as it is now. */
  readConfig(): Uint8Array;
  /** Sends one request and waits for the response, which is written to `response`. */
  request(request: Uint8Array, response: Uint8Array): void;
}

export interface VirtioMemDriverOptions {
  readonly link: VirtioMemLink;
  /** Size of the kernel's memory blocks, in bytes. Default 128 MiB, as on x86-64. */
  readonly memoryBlockSize?: number;
  /** Whether the kernel can free this memory now. Default: always. */
  readonly canFree?: (address: number, size: number) => boolean;
}

/**
 * How a run ended: `done`, the requested size is reached; `busy`, the device or the guest cannot just now: run again later; `full`,
 * there are no usable addresses for more; `broken`, the device refused what it must not refuse.
 */
export type RunOutcome = 'done' | 'busy' | 'full' | 'broken';

/** Outcomes of one request that end the work at hand; `changed`: the configuration is to be read again. */
type Stop = Exclude<RunOutcome, 'done'> | 'changed';

const { ACK, NACK, BUSY } = VirtioMemResponseType;
const { PLUG, UNPLUG, UNPLUG_ALL } = VirtioMemRequestType;

/** How often a configuration that does not settle is read again in one run. */
const MAX_RETRIES = 1000;

export class VirtioMemDriver {
  readonly #link: VirtioMemLink;
  readonly #canFree: (address: number, size: number) => boolean;
  readonly #blockSize: number;
  /** Bytes that are added to and removed from the kernel as one. */
  readonly #unitSize: number;
  readonly #blocksPerUnit: number;
  /** Where the first unit begins: the device's memory before that cannot be used. */
  readonly #start: number;
  readonly #units: number;
  /** For each block from `#start` on, whether it is plugged. */
  readonly #plugged: Uint8Array;
  readonly #pluggedInUnit: Uint32Array;
  readonly #response = new Uint8Array(VirtioMemResp.size);
  #pluggedSize = 0;
  #requestedSize = 0;
  #usableUnits = 0;
  #mustReadConfig = true;
  #mustUnplugAll: boolean;
  #isBroken = false;

  /** What an earlier driver has left plugged is unplugged by the first run. */
  constructor({ link, memoryBlockSize = 128 * MiB, canFree = () => true }: VirtioMemDriverOptions) {
    this.#link = link;
    this.#canFree = canFree;
    const config = VirtioMemConfig.decode(link.readConfig());
    const address = Number(config.addr);
    this.#blockSize = Number(config.blockSize);
    this.#unitSize = Math.max(this.#blockSize, memoryBlockSize);
    this.#blocksPerUnit = this.#unitSize / this.#blockSize;
    this.#start = Math.ceil(address / this.#unitSize) * this.#unitSize;
    const end = address + Number(config.regionSize);
    this.#units = Math.max(0, Math.floor((end - this.#start) / this.#unitSize));
    this.#plugged = new Uint8Array(this.#units * this.#blocksPerUnit);
    this.#pluggedInUnit = new Uint32Array(this.#units);
    this.#mustUnplugAll = config.pluggedSize > 0n;
  }

  /** Bytes plugged. */
  get pluggedSize(): number {
    return this.#pluggedSize;
  }
  get isBroken(): boolean {
    return this.#isBroken;
  }

  /** The device has changed its configuration: the next request waits until it was read. */
  configChanged(): void {
    this.#mustReadConfig = true;
  }

  /** Plugs or unplugs until the requested size is reached, or nothing more can be done now. */
  run(): RunOutcome {
    for (let tries = 0; tries < MAX_RETRIES; tries += 1) {
      if (this.#isBroken) return 'broken';
      if (this.#mustUnplugAll) {
        const stop = this.#request(UNPLUG_ALL, 0, 0);
        if (stop !== undefined) return this.#ended(stop);
        this.#mustUnplugAll = false;
      }
      if (this.#mustReadConfig) this.#readConfig();
      const missing = (this.#requestedSize - this.#pluggedSize) / this.#blockSize;
      const stop = missing > 0 ? this.#plug(missing) : this.#unplug(-missing);
      if (stop === undefined && !this.#mustReadConfig) return 'done';
      if (stop !== undefined && stop !== 'changed') return this.#ended(stop);
      this.#mustReadConfig = true;
    }
    return 'busy';
  }

  #ended(stop: Stop): RunOutcome {
    if (stop === 'broken') this.#isBroken = true;
    return stop === 'changed' ? 'busy' : stop;
  }

  #readConfig(): void {
    this.#mustReadConfig = false;
    const config = VirtioMemConfig.decode(this.#link.readConfig());
    this.#requestedSize = Number(config.requestedSize);
    const usableEnd = Number(config.addr) + Number(config.usableRegionSize);
    const units = Math.floor((usableEnd - this.#start) / this.#unitSize);
    this.#usableUnits = Math.max(0, Math.min(this.#units, units));
  }

  #plug(blocks: number): Stop | undefined {
    let missing = blocks;
    for (const isPartial of [true, false]) {
      for (let unit = 0; unit < this.#usableUnits && missing > 0; unit += 1) {
        if (this.#pluggedInUnit[unit]! > 0 !== isPartial) continue;
        const answer = this.#fill(unit, missing);
        if (typeof answer === 'string') return answer;
        missing -= answer;
      }
    }
    return missing > 0 ? 'full' : undefined;
  }

  /** Plugs the gaps of a unit. @returns how many blocks, at most `limit` */
  #fill(unit: number, limit: number): number | Stop {
    const end = (unit + 1) * this.#blocksPerUnit;
    let at = unit * this.#blocksPerUnit;
    let done = 0;
    while (done < limit) {
      while (at < end && this.#plugged[at] === 1) at += 1;
      if (at === end) break;
      let count = 1;
      while (at + count < end && this.#plugged[at + count] === 0 && done + count < limit) count += 1;
      const stop = this.#change(PLUG, at, count);
      if (stop !== undefined) return stop;
      done += count;
      at += count;
    }
    return done;
  }

  #unplug(blocks: number): Stop | undefined {
    let surplus = blocks;
    for (const isPartial of [true, false]) {
      for (let unit = this.#units - 1; unit >= 0 && surplus > 0; unit -= 1) {
        const plugged = this.#pluggedInUnit[unit]!;
        if (plugged === 0 || plugged < this.#blocksPerUnit !== isPartial) continue;
        const answer = this.#drain(unit, surplus);
        if (typeof answer === 'string') return answer;
        surplus -= answer;
      }
    }
    return surplus > 0 ? 'busy' : undefined;
  }

  /** Unplugs a unit as a whole if all of it goes, else block by block from its end. @returns how many blocks, at most `limit` */
  #drain(unit: number, limit: number): number | Stop {
    const first = unit * this.#blocksPerUnit;
    const blocks = this.#blocksPerUnit;
    if (limit >= blocks && this.#pluggedInUnit[unit] === blocks && this.#isFreeable(first, blocks)) {
      return this.#change(UNPLUG, first, blocks) ?? blocks;
    }
    let done = 0;
    for (let at = first + blocks - 1; at >= first && done < limit; at -= 1) {
      if (this.#plugged[at] === 0 || !this.#isFreeable(at, 1)) continue;
      const stop = this.#change(UNPLUG, at, 1);
      if (stop !== undefined) return stop;
      done += 1;
    }
    return done;
  }

  #isFreeable(at: number, blocks: number): boolean {
    return this.#canFree(this.#start + at * this.#blockSize, blocks * this.#blockSize);
  }

  #change(type: number, at: number, blocks: number): Stop | undefined {
    if (this.#mustReadConfig) return 'changed';
    const stop = this.#request(type, this.#start + at * this.#blockSize, blocks);
    if (stop !== undefined) return stop;
    const by = type === PLUG ? 1 : -1;
    this.#plugged.fill(type === PLUG ? 1 : 0, at, at + blocks);
    this.#pluggedInUnit[Math.floor(at / this.#blocksPerUnit)]! += by * blocks;
    this.#pluggedSize += by * blocks * this.#blockSize;
    return undefined;
  }

  #request(type: number, address: number, blocks: number): Stop | undefined {
    const request = VirtioMemReq.encode({ type, addr: BigInt(address), nbBlocks: blocks });
    this.#link.request(request, this.#response);
    const answer = VirtioMemResp.decode(this.#response).type;
    if (answer === ACK) return undefined;
    if (answer === BUSY) return 'busy';
    // A plug may be denied when the requested size has just become smaller; nothing else may be.
    return answer === NACK && type === PLUG ? 'changed' : 'broken';
  }
}
