/** One queue as the front-end tells it to a back-end. */
import { VHOST_VRING_F_LOG } from '../../protocol/vhost-user.ts';
import { vringAvailSize, vringDescSize, vringUsedSize } from '../../protocol/virtio-ring.ts';
import { ProtocolError } from '../errors.ts';
import { hex } from '../units.ts';
import type { VhostUserFrontend } from './frontend.ts';

/** Eventfds of a queue as long as the device exists; borrowed. */
export interface VringNotifiers {
  /** What a back-end signals while no driver listens. */
  readonly maskedFd: number;
  /** What it signals when it cannot go on. */
  readonly errorFd: number;
}

/** A queue as its driver has set it up: guest physical addresses, entries, and borrowed eventfds. */
export interface SharedQueue {
  readonly num: number;
  readonly descGpa: bigint;
  readonly availGpa: bigint;
  readonly usedGpa: bigint;
  readonly kickFd: number;
  /** What the driver listens to. */
  readonly callFd: number;
  /** The used index in guest memory: where to go on if the back-end does not say. */
  readonly usedIndex?: () => number;
}

type AddressOf = (guestAddress: bigint, size: number) => bigint | undefined;

export class FrontendVring {
  readonly #frontend: VhostUserFrontend;
  readonly #index: number;
  readonly #notifiers: VringNotifiers;
  #queue: SharedQueue | undefined;
  #address: { readonly desc: bigint; readonly avail: bigint; readonly used: bigint } | undefined;
  /** The next available index, as the back-end last said. */
  #base = 0;

  constructor(frontend: VhostUserFrontend, index: number, notifiers: VringNotifiers) {
    this.#frontend = frontend;
    this.#index = index;
    this.#notifiers = notifiers;
  }

  connect(): void {
    this.#frontend.setVringCall(this.#index, this.#notifiers.maskedFd);
    this.#frontend.setVringErr(this.#index, this.#notifiers.errorFd);
  }

  /** From here on the back-end calls the driver. */
  unmask(queue: SharedQueue): void {
    this.#queue = queue;
    this.#frontend.setVringCall(this.#index, queue.callFd);
  }

  /** The back-end calls nobody who listens. */
  mask(): void {
    this.#frontend.setVringCall(this.#index, this.#notifiers.maskedFd);
  }

  /** @throws {ProtocolError} UNMAPPED */
  setUp(queue: SharedQueue, addressOf: AddressOf, isLogged: boolean): void {
    const { num, descGpa, availGpa, usedGpa, kickFd } = queue;
    this.#address = {
      desc: this.#translate(addressOf, descGpa, vringDescSize(num)),
      avail: this.#translate(addressOf, availGpa, vringAvailSize(num)),
      used: this.#translate(addressOf, usedGpa, vringUsedSize(num)),
    };
    this.#frontend.setVringNum(this.#index, num);
    this.#frontend.setVringBase(this.#index, this.#base);
    this.sendAddress(isLogged);
    this.#frontend.setVringKick(this.#index, kickFd);
  }

  sendAddress(isLogged: boolean): void {
    if (this.#address === undefined || this.#queue === undefined) return;
    const { desc, avail, used } = this.#address;
    this.#frontend.setVringAddr({
      index: this.#index,
      flags: isLogged ? VHOST_VRING_F_LOG : 0,
      descUserAddr: desc,
      availUserAddr: avail,
      usedUserAddr: used,
      logGuestAddr: this.#queue.usedGpa,
    });
  }

  enable(isEnabled: boolean): void {
    this.#frontend.setVringEnable(this.#index, isEnabled);
  }

  /** Stops the ring. @throws {ProtocolError} what went wrong; the queue then goes on where the used ring ends */
  takeBack(): void {
    try {
      this.#base = this.#frontend.getVringBase(this.#index);
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** The back-end is gone: the queue goes on where its used ring ends. */
  abandon(): void {
    this.#base = this.#queue?.usedIndex?.() ?? this.#base;
  }

  reset(): void {
    this.#base = 0;
    this.#queue = undefined;
    this.#address = undefined;
  }

  #translate(addressOf: AddressOf, guestAddress: bigint, size: number): bigint {
    const address = addressOf(guestAddress, size);
    if (address !== undefined) return address;
    throw new ProtocolError(
      'UNMAPPED',
      `queue ${this.#index}: ${size} bytes at ${hex(guestAddress)} are in no shared region`,
    );
  }
}
