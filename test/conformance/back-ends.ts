/** Back-ends for tests of the suite, in this thread: one that works, and one that does what a test tells it to. */
import { U64 } from '../../protocol/vhost-user-payloads.ts';
import { FrontendRequest, REPLY_FLAGS } from '../../protocol/vhost-user.ts';
import type { BackendFacts, BackendUnderTest } from '../../src/conformance/backend.ts';
import { BackendGone } from '../../src/conformance/backend.ts';
import type { OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { Connection, type Message } from '../../src/vhost/connection.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';

/** Our own session and file server. A new one serves each connection. */
export class PaperBackend implements BackendUnderTest {
  readonly name = 'paper';
  readonly pid = undefined;
  readonly canRestart = true;
  readonly messages = '';
  #backend: InProcessBackend | undefined;

  readonly wait = (): void => this.#backend?.turn();

  connect(): OwnedFd {
    this.#backend?.[Symbol.dispose]();
    this.#backend = new InProcessBackend(new PaperFileSystem());
    return this.#backend.socket;
  }
  ending(): undefined {
    return undefined;
  }
  async restart(): Promise<void> {
    await this.close();
  }
  close(): Promise<void> {
    this.#backend?.[Symbol.dispose]();
    this.#backend = undefined;
    return Promise.resolve();
  }
}

/** What a scripted back-end does with a message: answers it, says nothing, hangs up, or ends. */
export type Reaction = 'answer' | 'nothing' | 'hang up' | 'end';

export const FEATURES = 0x1_4000_0000n;
export const FACTS: BackendFacts = {
  features: FEATURES,
  protocolFeatures: 0n,
  queues: 1,
  memSlots: 8,
  reconnects: true,
};

/** Reacts to each message as a test says; good answers are those to GET_FEATURES. */
export class ScriptedBackend implements BackendUnderTest {
  readonly name = 'scripted';
  readonly canRestart = true;
  readonly messages = 'said on stderr';
  readonly pid = 1;
  /** How often it was started anew. */
  restarts = 0;
  readonly #react: (message: Message, connection: number) => Reaction;
  #connections: Connection[] = [];
  #count = 0;
  #hasEnded = false;

  /** @param react is told which connection it is, counted from 1 */
  constructor(react: (message: Message, connection: number) => Reaction = () => 'answer') {
    this.#react = react;
  }

  readonly wait = (): void => {
    for (const connection of this.#connections) this.#serve(connection);
  };

  connect(): OwnedFd {
    if (this.#hasEnded) throw new BackendGone('connect: nobody listens');
    const [theirs, ours] = socketPair();
    this.#count += 1;
    this.#connections.push(new Connection(new MessageSocket(ours)));
    return theirs;
  }
  ending(): string | undefined {
    return this.#hasEnded ? 'exit status 7' : undefined;
  }
  restart(): Promise<void> {
    this.restarts += 1;
    this.#hasEnded = false;
    return this.close();
  }
  close(): Promise<void> {
    for (const connection of this.#connections.splice(0)) connection.close();
    return Promise.resolve();
  }

  #serve(connection: Connection): void {
    if (connection.fd < 0) return;
    const message = connection.receive();
    if (message === 'wait') return;
    if (message === 'closed') return connection.close();
    const reaction = this.#react(message, this.#count);
    if (reaction === 'answer' && message.request === FrontendRequest.GET_FEATURES)
      connection.send(message.request, REPLY_FLAGS, U64.encode(FEATURES));
    if (reaction === 'end') this.#hasEnded = true;
    if (reaction === 'end' || reaction === 'hang up') connection.close();
  }
}
