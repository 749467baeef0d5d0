/** A virtio-mem device of a machine, the guest's driver of it, and the virtqueue between them. */
import { VirtioMemResp, VirtioMemResponseType } from '../../protocol/virtio-mem.ts';
import { ProtocolError } from '../errors.ts';
import { Cleanup } from '../host/owned-fd.ts';
import type { VirtioMem } from '../memory-devices/virtio-mem.ts';
import { serveVirtioMem } from '../memory-devices/virtio-mem-requests.ts';
import type { LowRam } from './guest-allocator.ts';
import { LocalQueue } from './local-queue.ts';
import { type RunOutcome, VirtioMemDriver, type VirtioMemDriverOptions } from './virtio-mem-driver.ts';
import { VirtioMemQueueDevice, VirtioMemQueueLink } from './virtio-mem-queue.ts';

/** How the guest's driver behaves. */
export type VirtioMemGuestOptions = Omit<VirtioMemDriverOptions, 'link'>;

/** Bytes for a request and its response. */
const BUFFER = 128;
const BUSY = VirtioMemResp.encode({ type: VirtioMemResponseType.BUSY, state: 0 });

export class GuestVirtioMem implements Disposable {
  readonly id: string;
  readonly device: VirtioMem;
  readonly #ram: LowRam;
  readonly #options: VirtioMemGuestOptions;
  #driver: VirtioMemDriver | undefined;
  #owned = new Cleanup();
  #refusal: ProtocolError | undefined;

  /**
   * @param device plugged
   * @param ram where the driver's queue lies
   */
  constructor(id: string, device: VirtioMem, ram: LowRam, options: VirtioMemGuestOptions) {
    this.id = id;
    this.device = device;
    this.#ram = ram;
    this.#options = options;
    device.onConfigChange = () => this.#driver?.configChanged();
  }

  /** Guest physical address of its memory. */
  get address(): number {
    return Number(this.device.address);
  }
  /** Bytes it has at most. */
  get maxSize(): number {
    return this.device.regionSize;
  }
  /** Bytes the guest has. */
  get size(): number {
    return this.device.size;
  }

  /**
   * Asks the guest to have so many bytes, and lets its driver get there.
   *
   * @returns how far it came; `size` says where it is
   * @throws {MemoryDeviceError} BAD_PROPERTY
   * @throws {ProtocolError} why a back-end refused the change; what came before it is done, and another `run` goes on from there
   */
  resize(bytes: number): RunOutcome {
    this.device.setRequestedSize(bytes);
    return this.run();
  }

  /** Lets the driver go on towards the size it was asked for. Throws as `resize`. */
  run(): RunOutcome {
    this.#driver ??= this.#createDriver();
    const outcome = this.#driver.run();
    this.#trying(() => this.device.unmapEmpty());
    const refusal = this.#refusal;
    this.#refusal = undefined;
    if (refusal !== undefined) throw refusal;
    return outcome;
  }

  /** The machine is reset: nothing is plugged any more, and the driver is gone. @throws {ProtocolError} a back-end's refusal */
  reset(): void {
    this[Symbol.dispose]();
    this.device.systemReset();
  }

  /** The driver goes and gives its memory back. Idempotent. */
  [Symbol.dispose](): void {
    this.#driver = undefined;
    this.#owned[Symbol.dispose]();
  }

  #createDriver(): VirtioMemDriver {
    const device = new VirtioMemQueueDevice(this.device, (_, request, response) =>
      this.#serve(request, response),
    );
    const queue = this.#owned.use(new LocalQueue(this.#ram, device));
    const buffer = this.#ram.allocate(BUFFER);
    this.#owned.defer(() => this.#ram.release(buffer));
    const link = new VirtioMemQueueLink(queue, buffer, () => device.readConfig());
    return new VirtioMemDriver({ ...this.#options, link });
  }

  /** What a back-end refuses, the guest is told as BUSY; whoever runs the driver is told why. */
  #serve(request: Uint8Array, response: Uint8Array): number {
    let written = 0;
    const isServed = this.#trying(() => {
      written = serveVirtioMem(this.device, request, response);
    });
    if (isServed) return written;
    response.set(BUSY);
    return BUSY.length;
  }

  /** @returns whether no back-end refused it */
  #trying(change: () => void): boolean {
    try {
      change();
      return true;
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#refusal ??= error;
      return false;
    }
  }
}
