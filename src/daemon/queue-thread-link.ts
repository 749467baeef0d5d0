/** The device thread's end of its talk with one queue thread: one question at a time, each waited for. */
import { MessageChannel, type MessagePort, receiveMessageOnPort } from 'node:worker_threads';
import { errnoName, ProtocolError } from '../errors.ts';
import { createEventfd, drainEventfd, signalEventfd } from '../host/eventfd.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { waitReadable } from '../host/poll.ts';
import type { TurnGate } from '../host/turn-gate.ts';
import type { RingThread } from '../vhost/remote-ring.ts';
import type { RingCommand } from '../vhost/ring-command.ts';
import type { Question, QuestionAnswer } from './queue-thread-messages.ts';

/** Milliseconds after which a wait looks whether the thread has died. */
const LOOK_AGAIN_MS = 100;

/** The thread's end: what it is started with. */
export interface LinkEnd {
  readonly wakeFd: number;
  readonly answerFd: number;
  readonly port: MessagePort;
}

export class QueueThreadLink implements RingThread, Disposable {
  readonly thread: number;
  /** Queues the thread serves. */
  readonly indexes: readonly number[];
  readonly #gate: TurnGate;
  readonly #start: (end: LinkEnd) => void;
  readonly #wake = openEventfd();
  readonly #answered = openEventfd();
  #port: MessagePort | undefined;

  /** @param start starts the thread with its end of the link */
  constructor(thread: number, indexes: readonly number[], gate: TurnGate, start: (end: LinkEnd) => void) {
    this.thread = thread;
    this.indexes = indexes;
    this.#gate = gate;
    this.#start = start;
  }

  get isStarted(): boolean {
    return this.#port !== undefined;
  }

  call(command: RingCommand): number {
    return this.ask({ kind: 'ring', command });
  }

  /**
   * Starts the thread if need be, and waits for its answer. The caller is outside the gate.
   *
   * @throws {ProtocolError} what the thread refused with
   * @throws {Error} if the thread has died
   */
  ask(question: Question): number {
    const port = (this.#port ??= this.#open());
    // Its turn ends early, or it would hear us only after that.
    this.#gate.want(this.thread);
    try {
      port.postMessage(question);
      this.nudge();
      for (;;) {
        const received: { readonly message: QuestionAnswer } | undefined = receiveMessageOnPort(port);
        if (received !== undefined) return valueOf(received.message);
        if (this.#gate.isDeadThread(this.thread)) throw new Error(`queue thread ${this.thread} has ended`);
        waitReadable(this.#answered.fd, LOOK_AGAIN_MS);
        drainEventfd(this.#answered.fd);
      }
    } finally {
      this.#gate.unwant(this.thread);
    }
  }

  /** Makes the thread look at what was published. Waits for nothing. */
  nudge(): void {
    signalEventfd(this.#wake.fd);
  }

  /** The thread has ended, or was never started. */
  [Symbol.dispose](): void {
    this.#port?.close();
    this.#wake.close();
    this.#answered.close();
  }

  #open(): MessagePort {
    const { port1, port2 } = new MessageChannel();
    this.#start({ wakeFd: this.#wake.fd, answerFd: this.#answered.fd, port: port2 });
    return port1;
  }
}

function valueOf(answer: QuestionAnswer): number {
  if (answer.kind === 'done') return answer.value;
  throw new ProtocolError(answer.code, answer.reason);
}

function openEventfd(): OwnedFd {
  const fd = createEventfd();
  if (fd < 0) throw new RangeError(`eventfd: ${errnoName(-fd)}`);
  return new OwnedFd(fd);
}
