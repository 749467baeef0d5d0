/**
 * Requests the kernel works on, and their answers when it is done. Nothing is allocated per request.
 *
 * Host addresses are kept, so no region may go while any is in flight: whoever changes the memory table calls `settle`
 * first.
 */
import { OutHeader } from '../../protocol/fuse.ts';
import type { Chain } from '../virtio/chain.ts';
import type { InFlight } from './file-system.ts';
import type { GuestBytes } from './guest-bytes.ts';
import type { FuseRequest } from './request.ts';
import type { Scratch } from './scratch.ts';

/** Gives a chain back, as a vhost device does. */
type Complete = (queueIndex: number, head: number, written: number) => void;

export class InFlightRequests {
  readonly #source: InFlight;
  readonly #bytes: GuestBytes;
  readonly #output: Scratch;
  readonly #queueIndex: Uint16Array;
  readonly #head: Uint16Array;
  readonly #uniqueLo: Uint32Array;
  readonly #uniqueHi: Uint32Array;
  /** Where in this process the reply's header goes. */
  readonly #address: Float64Array;

  /** @param output where a reply's header is built */
  constructor(source: InFlight, bytes: GuestBytes, output: Scratch) {
    this.#source = source;
    this.#bytes = bytes;
    this.#output = output;
    this.#queueIndex = new Uint16Array(source.capacity);
    this.#head = new Uint16Array(source.capacity);
    this.#uniqueLo = new Uint32Array(source.capacity);
    this.#uniqueHi = new Uint32Array(source.capacity);
    this.#address = new Float64Array(source.capacity);
  }

  /** Signalled when `run` may find something. */
  get fd(): number {
    return this.#source.eventFd;
  }

  /** Requests under way. */
  get count(): number {
    return this.#source.count;
  }

  /** Keeps a request, which `mayFly`, under its ticket. */
  keep(queueIndex: number, chain: Chain, { ticket, uniqueLo, uniqueHi }: FuseRequest): void {
    this.#queueIndex[ticket] = queueIndex;
    this.#head[ticket] = chain.head;
    this.#uniqueLo[ticket] = uniqueLo;
    this.#uniqueHi[ticket] = uniqueHi;
    this.#address[ticket] = chain.address[chain.readableCount]!;
  }

  /** Lets the kernel begin what was kept. */
  submit(): void {
    this.#source.submit();
  }

  /** Answers what is done. */
  run(complete: Complete): void {
    const source = this.#source;
    for (let ticket = source.take(); ticket >= 0; ticket = source.take())
      complete(this.#queueIndex[ticket]!, this.#head[ticket]!, this.#answer(ticket, source.result));
  }

  /** Waits for all, and answers them. */
  settle(complete: Complete): void {
    for (this.run(complete); this.#source.count > 0; this.run(complete)) this.#source.wait();
  }

  /** @returns bytes written */
  #answer(ticket: number, result: number): number {
    const written = OutHeader.size + Math.max(0, result);
    const words = this.#output.u32;
    words[OutHeader.offset.len / 4] = written;
    words[OutHeader.offset.error / 4] = Math.min(0, result); // stores modulo 2^32: two's complement
    words[OutHeader.offset.unique / 4] = this.#uniqueLo[ticket]!;
    words[OutHeader.offset.unique / 4 + 1] = this.#uniqueHi[ticket]!;
    this.#bytes.write(this.#address[ticket]!, this.#output, 0, OutHeader.size);
    return written;
  }
}
