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
  #frontend: VhostUserFrontend;
  readonly #index: number;
  readonly #notifiers: VringNotifiers;
  #queue: SharedQueue | undefined;
  #address: { readonly desc: bigint; readonly avail: bigint; readonly used: bigint } | undefined;
  /** The next available index, as the back-end last said. */
  #base = 0;
  #isSetUp = false;

  constructor(frontend: VhostUserFrontend, index: number, notifiers: VringNotifiers) {
    this.#frontend = frontend;
    this.#index = index;
    this.#notifiers = notifiers;
  }

  /** The back-end may have the ring at work: it has to be stopped. */
  get isSetUp(): boolean {
    return this.#isSetUp;
  }

  /** Another connection, whose back-end knows nothing of the ring. */
  reconnect(frontend: VhostUserFrontend): void {
    this.#frontend = frontend;
    this.#isSetUp = false;
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

  /** In QEMU's order. @throws {ProtocolError} UNMAPPED */
  setUp(queue: SharedQueue, addressOf: AddressOf, isLogged: boolean): void {
    this.#locate(queue, addressOf);
    this.sendNum(queue);
    this.#frontend.setVringBase(this.#index, this.#base);
    this.sendAddress(isLogged);
    this.#sendKick(queue);
  }

  sendNum(queue: SharedQueue): void {
    this.#queue = queue;
    this.#frontend.setVringNum(this.#index, queue.num);
  }

  /** In cloud-hypervisor's order, after `sendNum`. @throws {ProtocolError} UNMAPPED */
  setUpNumbered(queue: SharedQueue, addressOf: AddressOf, isLogged: boolean): void {
    this.#locate(queue, addressOf);
    this.sendAddress(isLogged);
    this.#frontend.setVringBase(this.#index, this.#base);
    this.unmask(queue);
    this.#sendKick(queue);
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

  /** Where to go on, if that is known from elsewhere. */
  moveTo(base: number): void {
    this.#base = base;
  }

  /** Stops the ring. @throws {ProtocolError} what went wrong; the queue then goes on where the used ring ends */
  takeBack(): void {
    try {
      this.#base = this.#frontend.getVringBase(this.#index);
      this.#isSetUp = false;
    } catch (error) {
      this.abandon();
      throw error;
    }
  }

  /** The back-end is gone: the queue goes on where its used ring ends. */
  abandon(): void {
    this.#base = this.#queue?.usedIndex?.() ?? this.#base;
    this.#isSetUp = false;
  }

  reset(): void {
    this.#base = 0;
    this.#queue = undefined;
    this.#address = undefined;
    this.#isSetUp = false;
  }

  #locate({ num, descGpa, availGpa, usedGpa }: SharedQueue, addressOf: AddressOf): void {
    this.#address = {
      desc: this.#translate(addressOf, descGpa, vringDescSize(num)),
      avail: this.#translate(addressOf, availGpa, vringAvailSize(num)),
      used: this.#translate(addressOf, usedGpa, vringUsedSize(num)),
    };
  }

  #sendKick({ kickFd }: SharedQueue): void {
    this.#frontend.setVringKick(this.#index, kickFd);
    this.#isSetUp = true;
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
