/**
 * A back-end that misbehaves as it is told to, in the words of the recorded ones: `ADD_MEM_REG#2:err=1` answers the second ADD_MEM_REG with 1.
 * It speaks over a real socket, in the thread of who calls `turn`.
 */
import { maskOf } from '../../protocol/bits.ts';
import {
  HeaderFlag,
  needsReply,
  ProtocolFeature,
  type ProtocolFeatureName,
  VHOST_USER_STATE_NOFD_MASK,
  VhostUserHeader,
} from '../../protocol/vhost-user.ts';
import {
  MemoryTable,
  SingleRegion,
  U64,
  VringState,
  type MemoryRegionDescription,
} from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import type { OwnedFd } from '../../src/host/owned-fd.ts';
import { MessageSocket, socketPair } from '../../src/host/unix-socket.ts';
import { Connection, type Message } from '../../src/vhost/connection.ts';

interface Rule {
  readonly request: string;
  /** Which one of these requests; 0: all. */
  readonly count: number;
  readonly action: string;
  readonly argument: string;
}

const FEATURES = maskOf(30, 32);
const PROTOCOL_FEATURES = 'MQ,REPLY_ACK,BACKEND_REQ,CONFIGURE_MEM_SLOTS,RESET_DEVICE';

export class FaultyBackend implements Disposable {
  /** The front-end's end, which is to be owned by it. */
  readonly socket: OwnedFd;
  readonly regions = new Map<bigint, MemoryRegionDescription>();
  /** What a request on the channel of SET_BACKEND_REQ_FD was answered with. */
  readonly answers: bigint[] = [];
  readonly #socket: MessageSocket;
  readonly #peer: Connection;
  readonly #rules: readonly Rule[];
  readonly #options: ReadonlyMap<string, string>;
  readonly #counts = new Map<string, number>();
  #channel: Connection | undefined;
  #isSilent = false;
  #acknowledges = false;

  /** @param words `--rule`, `ADD_MEM_REG#2:err=1`, `--pf`, `0` … */
  constructor(words: readonly string[]) {
    const [theirs, ours] = socketPair();
    this.socket = ours;
    this.#socket = new MessageSocket(theirs);
    this.#peer = new Connection(this.#socket);
    const pairs = words.flatMap((word, index) =>
      word.startsWith('--') ? [[word.slice(2), words[index + 1] ?? ''] as const] : [],
    );
    this.#options = new Map(pairs);
    this.#rules = pairs.flatMap(([name, text]) => (name === 'rule' ? [ruleOf(text)] : []));
    if (this.#rules.some(({ request }) => request === 'CONNECT')) this.#peer.close();
  }

  /** Takes and answers all that has come. */
  turn(): void {
    for (;;) {
      this.#readAnswers();
      const message = this.#isSilent ? 'wait' : this.#peer.receive();
      if (message === 'wait' || message === 'closed') return;
      this.#serve(message);
      for (const fd of message.fds) fd.close();
    }
  }

  [Symbol.dispose](): void {
    this.#peer.close();
    this.#channel?.close();
    this.socket.close();
  }

  #serve({ request, flags, payload, fds }: Message): void {
    const { name } = frontendRow(request)!;
    const count = (this.#counts.get(name) ?? 0) + 1;
    this.#counts.set(name, count);
    const rule = this.#rules.find(
      (each) => each.request === name && (each.count === 0 || each.count === count),
    );
    const { action = '', argument = '' } = rule ?? {};
    if (action === 'close') return this.#peer.close();
    const own = this.#process(name, payload, fds);
    // late is as good as never to somebody who does not wait that long
    if (action === 'delay') this.#isSilent = true;
    if (action === 'closeafter') return this.#peer.close();
    if (own === undefined && !(needsReply(flags) && this.#acknowledges)) return undefined;
    if (action === 'delay') return undefined;
    this.#answer(request, own ?? U64.encode(0n), action, argument);
    return undefined;
  }

  #answer(request: number, own: Uint8Array, action: string, argument: string): void {
    const number = Number(argument);
    const payload =
      action === 'size' ? new Uint8Array(number) : /err|val/.test(action) ? U64.encode(BigInt(number)) : own;
    const header = VhostUserHeader.encode({
      request: action === 'req' ? number : request,
      flags: action === 'flags' ? number : HeaderFlag.REPLY | 1,
      size: payload.length,
    });
    const octets = Buffer.concat([header, payload]);
    this.#socket.send(action === 'shortclose' ? octets.subarray(0, number) : octets, []);
    if (action === 'twice') this.#socket.send(octets, []);
    if (action === 'shortclose') this.#peer.close();
  }

  /** @returns the answer of a back-end that is in order; undefined if only an acknowledgement is due */
  #process(name: string, payload: Uint8Array, fds: OwnedFd[]): Uint8Array | undefined {
    const number = (option: string, otherwise: number): Uint8Array =>
      U64.encode(BigInt(this.#options.get(option) ?? otherwise));
    if (name === 'GET_FEATURES') return U64.encode(BigInt(this.#options.get('features') ?? FEATURES));
    if (name === 'GET_PROTOCOL_FEATURES')
      return U64.encode(protocolFeaturesOf(this.#options.get('pf') ?? PROTOCOL_FEATURES));
    if (name === 'GET_QUEUE_NUM') return number('queue-num', 16);
    if (name === 'GET_MAX_MEM_SLOTS') return number('max-slots', 509);
    if (name === 'GET_STATUS' || name === 'CHECK_DEVICE_STATE') return U64.encode(0n);
    if (name === 'SET_DEVICE_STATE_FD') return U64.encode(BigInt(VHOST_USER_STATE_NOFD_MASK));
    if (name === 'GET_VRING_BASE')
      return VringState.encode({ index: VringState.decode(payload).index, num: 0 });
    if (name === 'SET_PROTOCOL_FEATURES')
      this.#acknowledges = (U64.decode(payload) & maskOf(ProtocolFeature.REPLY_ACK)) !== 0n;
    if (name === 'SET_BACKEND_REQ_FD') this.#openChannel(fds.shift()!);
    this.#takeMemory(name, payload);
    return undefined;
  }

  #takeMemory(name: string, payload: Uint8Array): void {
    if (name === 'SET_MEM_TABLE') {
      this.regions.clear();
      for (const region of MemoryTable.decode(payload).regions)
        this.regions.set(region.guestPhysAddr, region);
    } else if (name === 'ADD_MEM_REG') {
      const { region } = SingleRegion.decode(payload);
      this.regions.set(region.guestPhysAddr, region);
    } else if (name === 'REM_MEM_REG') this.regions.delete(SingleRegion.decode(payload).region.guestPhysAddr);
  }

  #openChannel(fd: OwnedFd): void {
    const socket = new MessageSocket(fd);
    this.#channel = new Connection(socket);
    const [, hex] = this.#options.get('backend-req')?.split(':') ?? [];
    if (hex !== undefined) socket.send(Buffer.from(hex, 'hex'), []);
  }

  #readAnswers(): void {
    const answer = this.#channel?.receive();
    if (answer === undefined || typeof answer === 'string') return;
    this.answers.push(U64.decode(answer.payload));
  }
}

function ruleOf(text: string): Rule {
  const [, request = '', count = '0', action = '', argument = ''] =
    /^([A-Z_]+)(?:#(\d+))?:([a-z]+)(?:=(.*))?$/.exec(text) ?? [];
  return { request, count: Number(count), action, argument };
}

const protocolFeaturesOf = (text: string): bigint =>
  /^\d/.test(text)
    ? BigInt(text)
    : maskOf(...text.split(',').map((name) => ProtocolFeature[name as ProtocolFeatureName]));
