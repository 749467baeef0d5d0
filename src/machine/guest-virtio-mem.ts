/** A virtio-mem device of a machine, and the guest's driver of it. */
import { VirtioMemResp, VirtioMemResponseType } from '../../protocol/virtio-mem.ts';
import { ProtocolError } from '../errors.ts';
import type { VirtioMem } from '../memory-devices/virtio-mem.ts';
import { configSpaceOf, serveVirtioMem } from '../memory-devices/virtio-mem-requests.ts';
import {
  type RunOutcome,
  VirtioMemDriver,
  type VirtioMemDriverOptions,
  type VirtioMemLink,
} from './virtio-mem-driver.ts';

/** How the guest's driver behaves. */
export type VirtioMemGuestOptions = Omit<VirtioMemDriverOptions, 'link'>;

const BUSY = VirtioMemResp.encode({ type: VirtioMemResponseType.BUSY, state: 0 });

export class GuestVirtioMem {
  readonly id: string;
  readonly device: VirtioMem;
  readonly #options: VirtioMemGuestOptions;
  #driver: VirtioMemDriver | undefined;
  #refusal: ProtocolError | undefined;

  /** @param device plugged */
  constructor(id: string, device: VirtioMem, options: VirtioMemGuestOptions) {
    this.id = id;
    this.device = device;
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
    this.#driver ??= new VirtioMemDriver({ ...this.#options, link: this.#link });
    const outcome = this.#driver.run();
    const refusal = this.#refusal;
    this.#refusal = undefined;
    if (refusal !== undefined) throw refusal;
    return outcome;
  }

  /** The machine is reset: nothing is plugged any more, and the driver is gone. @throws {ProtocolError} a back-end's refusal */
  reset(): void {
    this.#driver = undefined;
    this.device.systemReset();
  }

  readonly #link: VirtioMemLink = {
    readConfig: () => configSpaceOf(this.device),
    request: (request, response) => this.#serve(request, response),
  };

  /** What a back-end refuses, the guest is told as BUSY; whoever runs the driver is told why. */
  #serve(request: Uint8Array, response: Uint8Array): void {
    try {
      serveVirtioMem(this.device, request, response);
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.#refusal ??= error;
      response.set(BUSY);
    }
  }
}
