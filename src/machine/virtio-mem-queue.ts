/** Both ends of a virtio-mem device's queue: the device behind it, and the driver's way to it. */
import { VirtioMemReq, VirtioMemResp } from '../../protocol/virtio-mem.ts';
import { copyMemory, NativeMemory } from '../host/native-memory.ts';
import type { VirtioMem } from '../memory-devices/virtio-mem.ts';
import { configSpaceOf, serveVirtioMem } from '../memory-devices/virtio-mem-requests.ts';
import type { VhostDevice } from '../vhost/device.ts';
import type { Chain } from '../virtio/chain.ts';
import type { DriverQueue } from '../virtio/driver-queue.ts';
import type { GuestBuffer } from './guest-ram.ts';
import type { VirtioMemLink } from './virtio-mem-driver.ts';

/** Where the response lies in the scratch memory. */
const RESPONSE = 64;
/** A request and its response while they are served: one at a time in a thread. */
const scratch = NativeMemory.allocate(4096);

/** A virtio-mem device behind a queue: chains in, responses out. */
export class VirtioMemQueueDevice implements VhostDevice {
  readonly queueCount = 1;
  readonly maxQueueSize = 128;
  readonly #device: VirtioMem;
  readonly #serve: typeof serveVirtioMem;

  /** @param serve answers a request */
  constructor(device: VirtioMem, serve = serveVirtioMem) {
    this.#device = device;
    this.#serve = serve;
  }

  get features(): bigint {
    return this.#device.features;
  }

  readConfig(): Uint8Array {
    return configSpaceOf(this.#device);
  }

  /** @throws {GuestError} BAD_REQUEST: the device is broken, as in QEMU */
  handle(_queueIndex: number, chain: Chain): number {
    const { u8, address } = scratch;
    const size = Math.min(chain.readableBytes, VirtioMemReq.size);
    const room = Math.min(chain.writableBytes, VirtioMemResp.size);
    eachPiece(chain, 0, size, (guest, at, piece) => copyMemory(address + at, guest, piece));
    const written = this.#serve(this.#device, u8.subarray(0, size), u8.subarray(RESPONSE, RESPONSE + room));
    eachPiece(chain, chain.readableCount, written, (guest, at, piece) =>
      copyMemory(guest, address + RESPONSE + at, piece),
    );
    return written;
  }

  reset(): void {
    // What is plugged stays plugged: only a reset of the machine takes it away.
  }
}

/** The first `size` bytes of the segments from `first` on, each with its host address and where it lies among those bytes. */
function eachPiece(
  chain: Chain,
  first: number,
  size: number,
  call: (address: number, at: number, piece: number) => void,
): void {
  let done = 0;
  for (let i = first; done < size; i += 1) {
    const piece = Math.min(chain.length[i]!, size - done);
    call(chain.address[i]!, done, piece);
    done += piece;
  }
}

/** What a driver needs of a queue it waits on; `GuestQueue` is one. */
export interface WaitableQueue {
  readonly driver: DriverQueue;
  submit(): void;
  /** Takes one finished request, waiting for it. @returns its head */
  wait(timeoutMs: number): number;
}

const TIMEOUT_MS = 5000;

/** The driver's side of the queue: one request at a time, as in Linux. */
export class VirtioMemQueueLink implements VirtioMemLink {
  readonly #queue: WaitableQueue;
  readonly #buffer: GuestBuffer;
  readonly #readConfig: () => Uint8Array;

  /** @param buffer guest memory for a request and its response, 128 bytes at least */
  constructor(queue: WaitableQueue, buffer: GuestBuffer, readConfig: () => Uint8Array) {
    this.#queue = queue;
    this.#buffer = buffer;
    this.#readConfig = readConfig;
  }

  readConfig(): Uint8Array {
    return this.#readConfig();
  }

  /** @throws {ProtocolError} TIMEOUT, CLOSED */
  request(request: Uint8Array, response: Uint8Array): void {
    const { gpa, bytes } = this.#buffer;
    bytes.set(request);
    this.#queue.driver.add([gpa, gpa + RESPONSE], [request.byteLength, response.byteLength], 2, 1);
    this.#queue.submit();
    this.#queue.wait(TIMEOUT_MS);
    response.set(bytes.subarray(RESPONSE, RESPONSE + response.byteLength));
  }
}
