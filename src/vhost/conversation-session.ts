/**
 * One connection of a recorded conversation: what was negotiated, the memory table, the rings, and which requests wait
 * for a reply. Looks on: nothing a peer sends makes it fail, it only finds it noteworthy.
 */
import { hasBit } from '../../protocol/bits.ts';
import {
  FrontendRequest,
  type FrontendRequestName,
  needsReply,
  ProtocolFeature,
  VHOST_USER_F_PROTOCOL_FEATURES,
  VhostUserHeader,
} from '../../protocol/vhost-user.ts';
import { MemoryTable, SingleRegion, U64, VringAddr, VringState } from '../../protocol/vhost-user-payloads.ts';
import { backendRow, frontendRow } from '../../protocol/vhost-user-requests.ts';
import { hex } from '../units.ts';
import { hasReplyAck, outOfSpec } from './conversation-check.ts';
import { Exchange, type PendingRequest } from './conversation-exchange.ts';
import { type MemorySnapshot, MemoryTimeline } from './conversation-memory.ts';
import { requestName } from './conversation-names.ts';
import { decoded, vringFd } from './conversation-payload.ts';
import type { Channel, MessageRecord } from './conversation-record.ts';
import { RingStates } from './conversation-rings.ts';

export type AnomalyKind =
  'missing-reply' | 'nack' | 'unexpected-reply' | 'out-of-spec' | 'memory' | 'framing';
export interface Anomaly {
  readonly kind: AnomalyKind;
  /** The message it is about. */
  readonly n: number;
  readonly text: string;
}

/** What there is to say about a message. */
export interface Reading {
  readonly isReply: boolean;
  /** Of a reply: what it answers. */
  readonly answers?: { readonly n: number; readonly seconds: number };
  /** Of a reply that is an acknowledgement. */
  readonly ack?: 'ok' | 'nack';
  /** Of a request: a reply is due. */
  readonly expectsReply: boolean;
  /** The table, if this message changed it. */
  readonly memory?: MemorySnapshot;
  /** Rings whose state this message changed. */
  readonly rings: readonly string[];
  readonly anomalies: readonly Anomaly[];
}

/** Memory slots without CONFIGURE_MEM_SLOTS. vhost-user spec § Memory regions description. */
const BASELINE_SLOTS = 8;

type Effect = () => string | undefined;

export class ConversationSession {
  readonly memory = new MemoryTimeline();
  readonly rings = new RingStates();
  readonly #exchanges: Readonly<Record<Channel, Exchange>> = {
    main: new Exchange(),
    backend: new Exchange(),
  };
  /** Undefined if the recording begins in the middle. */
  #protocolFeatures: bigint | undefined;
  #tableChanged = false;

  /** @param seenFromStart the recording holds all of the connection */
  constructor(seenFromStart: boolean) {
    this.#protocolFeatures = seenFromStart ? 0n : undefined;
  }

  read(record: MessageRecord): Reading {
    const isReply = (record.dir === 'be>fe') === (record.chan === 'main');
    const wrong = outOfSpec(record, isReply, this.#protocolFeatures);
    const anomalies = wrong.map((text): Anomaly => ({ kind: 'out-of-spec', n: record.n, text }));
    const reading = isReply ? this.#reply(record, anomalies) : this.#request(record, anomalies);
    const memory = this.#tableChanged ? { memory: this.memory.snapshot() } : {};
    this.#tableChanged = false;
    return { ...reading, ...memory, rings: this.rings.takeChanges(), anomalies };
  }

  /** The channel has ended, or the recording. @returns the replies that did not come */
  end(chan: Channel): readonly Anomaly[] {
    return this.#exchanges[chan].end().map(missing);
  }

  #request(record: MessageRecord, anomalies: Anomaly[]): Omit<Reading, 'rings' | 'anomalies'> {
    const { request, flags } = VhostUserHeader.decode(record.octets);
    const payload = record.octets.subarray(VhostUserHeader.size);
    const row = record.chan === 'main' ? frontendRow(request) : backendRow(request);
    const isAlwaysAnswered = row !== undefined && row.reply !== 'ack';
    const hasAck = this.#protocolFeatures === undefined || hasReplyAck(this.#protocolFeatures);
    const isDue = isAlwaysAnswered || (needsReply(flags) && hasAck);
    const effect = record.chan === 'main' && row ? this.#effectOf(row.name, payload) : undefined;
    if (isDue || needsReply(flags)) {
      const reply = isDue ? 'due' : 'maybe';
      const waits = isDue && !isAlwaysAnswered;
      const pending = { record, request, reply, effect: waits ? effect : undefined } as const;
      const given = this.#exchanges[record.chan].sent(pending);
      if (given !== undefined) anomalies.push(missing(given));
      if (!waits) this.#apply(effect, record, anomalies);
    } else this.#apply(effect, record, anomalies);
    return { isReply: false, expectsReply: isDue };
  }

  #reply(record: MessageRecord, anomalies: Anomaly[]): Omit<Reading, 'rings' | 'anomalies'> {
    const { request } = VhostUserHeader.decode(record.octets);
    const payload = record.octets.subarray(VhostUserHeader.size);
    const { found, missed } = this.#exchanges[record.chan].answered(request);
    anomalies.push(...missed.map(missing));
    const reading = { isReply: true, expectsReply: false };
    if (found === undefined) {
      anomalies.push({ kind: 'unexpected-reply', n: record.n, text: 'nobody waits for this reply' });
      return reading;
    }
    const answers = { n: found.record.n, seconds: Math.max(0, record.t - found.record.t) };
    const row = record.chan === 'main' ? frontendRow(request) : backendRow(request);
    if (row === undefined || row.reply !== 'ack') {
      if (record.chan === 'main') this.#learn(request, payload, record, anomalies);
      return { ...reading, answers };
    }
    const value = decoded(U64, payload);
    if (value === 0n) {
      this.#apply(found.effect, record, anomalies);
      return { ...reading, answers, ack: 'ok' };
    }
    const text = `${requestName(record.chan, request)} of #${answers.n} refused: ${value === undefined ? 'no u64' : hex(value)}`;
    anomalies.push({ kind: 'nack', n: record.n, text });
    return { ...reading, answers, ack: 'nack' };
  }

  #apply(effect: Effect | undefined, record: MessageRecord, anomalies: Anomaly[]): void {
    const text = effect?.();
    if (text !== undefined) anomalies.push({ kind: 'memory', n: record.n, text });
  }

  /** What a request changes, if its payload can be read. */
  #effectOf(name: string, payload: Uint8Array): Effect | undefined {
    const effect = EFFECTS[name as FrontendRequestName];
    return effect === undefined ? undefined : () => effect(this, payload);
  }

  /** What an answer tells. */
  #learn(request: number, payload: Uint8Array, record: MessageRecord, anomalies: Anomaly[]): void {
    if (request === FrontendRequest.GET_MAX_MEM_SLOTS) {
      const limit = decoded(U64, payload);
      if (limit !== undefined) this.memory.limit = Number(limit);
    } else if (request === FrontendRequest.GET_VRING_BASE) {
      const state = decoded(VringState, payload);
      if (state !== undefined) this.rings.stop(state.index, state.num);
    } else if (
      request === FrontendRequest.CHECK_DEVICE_STATE ||
      request === FrontendRequest.SET_DEVICE_STATE_FD
    ) {
      const value = decoded(U64, payload) ?? 0n;
      if ((value & 0xffn) !== 0n)
        anomalies.push({
          kind: 'nack',
          n: record.n,
          text: `${requestName('main', request)} failed: ${hex(value)}`,
        });
    }
  }

  /** Features, as SET_PROTOCOL_FEATURES says. */
  setProtocolFeatures(mask: bigint): void {
    this.#protocolFeatures = mask;
    if (!hasBit(mask, ProtocolFeature.CONFIGURE_MEM_SLOTS)) this.memory.limit = BASELINE_SLOTS;
  }

  setTableChanged(): void {
    this.#tableChanged = true;
  }
}

const missing = ({ record, request }: PendingRequest): Anomaly => ({
  kind: 'missing-reply',
  n: record.n,
  text: `${requestName(record.chan, request)} of #${record.n} got no reply`,
});

/** Requests that change what the back-end has. Each says what is wrong with it, if something is. */
const EFFECTS: {
  readonly [Name in FrontendRequestName]?: (
    session: ConversationSession,
    payload: Uint8Array,
  ) => string | undefined;
} = {
  SET_FEATURES: (session, payload) => {
    const mask = decoded(U64, payload);
    if (mask !== undefined) session.rings.setNeedsEnable(hasBit(mask, VHOST_USER_F_PROTOCOL_FEATURES));
    return undefined;
  },
  SET_PROTOCOL_FEATURES: (session, payload) => {
    const mask = decoded(U64, payload);
    if (mask !== undefined) session.setProtocolFeatures(mask);
    return undefined;
  },
  SET_MEM_TABLE: (session, payload) => {
    const table = decoded(MemoryTable, payload);
    if (table === undefined) return undefined;
    session.setTableChanged();
    return session.memory.replace(table.regions);
  },
  ADD_MEM_REG: (session, payload) => {
    const single = decoded(SingleRegion, payload);
    if (single === undefined) return undefined;
    session.setTableChanged();
    return session.memory.add(single.region);
  },
  REM_MEM_REG: (session, payload) => {
    const single = decoded(SingleRegion, payload);
    if (single === undefined) return undefined;
    session.setTableChanged();
    return session.memory.remove(single.region);
  },
  SET_VRING_NUM: (session, payload) => {
    const state = decoded(VringState, payload);
    if (state !== undefined) session.rings.setNum(state.index, state.num);
    return undefined;
  },
  SET_VRING_BASE: (session, payload) => {
    const state = decoded(VringState, payload);
    if (state !== undefined) session.rings.setBase(state.index, state.num);
    return undefined;
  },
  SET_VRING_ADDR: (session, payload) => {
    const addr = decoded(VringAddr, payload);
    if (addr !== undefined) session.rings.setAddresses(addr.index);
    return undefined;
  },
  SET_VRING_KICK: (session, payload) => {
    const value = decoded(U64, payload);
    if (value !== undefined) session.rings.start(vringFd(value).index);
    return undefined;
  },
  SET_VRING_ENABLE: (session, payload) => {
    const state = decoded(VringState, payload);
    if (state !== undefined) session.rings.setEnabled(state.index, state.num !== 0);
    return undefined;
  },
  RESET_DEVICE: (session) => {
    session.rings.reset();
    return undefined;
  },
};
