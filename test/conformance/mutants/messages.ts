/** Bugs in negotiation, framing and acknowledgements. */
import type { Mutant } from './mutant.ts';

const NEGOTIATION = 'src/vhost/backend-negotiation';
const DISPATCH = 'src/vhost/backend-dispatch';
const BACKEND = 'src/vhost/backend';
const STATE = 'src/vhost/backend-state';
const CONNECTION = 'src/vhost/connection';

export const MESSAGE_MUTANTS: readonly Mutant[] = [
  {
    id: 'features-unchecked',
    bug: 'features that were not offered are accepted',
    file: NEGOTIATION,
    search: 'if (surplus !== 0n)',
    replace: 'if (false)',
    areas: ['negotiation'],
  },
  {
    id: 'never-acknowledges',
    bug: 'NEED_REPLY is not answered',
    file: NEGOTIATION,
    search: 'state.acknowledges = hasBit(protocolFeatures, ProtocolFeature.REPLY_ACK);',
    replace: 'state.acknowledges = false;',
    areas: ['reply-ack'],
  },
  {
    id: 'unasked-acknowledgement',
    bug: 'every request is acknowledged, asked for or not',
    file: DISPATCH,
    search: 'needsReply(flags) && state.acknowledges ?',
    replace: 'state.acknowledges ?',
    areas: ['reply-ack'],
  },
  {
    id: 'refusal-acknowledged-as-success',
    bug: 'a refused request is acknowledged with 0',
    file: DISPATCH,
    search: 'const REFUSED = 1n;',
    replace: 'const REFUSED = 0n;',
    areas: ['memory.add', 'ring.num'],
  },
  {
    id: 'success-acknowledged-as-refusal',
    bug: 'what was done is acknowledged with 1',
    file: DISPATCH,
    search: 'return reply ?? ack(state, flags, 0n);',
    replace: 'return reply ?? ack(state, flags, 1n);',
    areas: ['reply-ack'],
  },
  {
    id: 'explicit-reply-and-ack',
    bug: 'a request with a reply of its own is acknowledged too',
    file: BACKEND,
    search: 'this.#connection.send(message.request, REPLY_FLAGS, reply);',
    replace: `{ this.#connection.send(message.request, REPLY_FLAGS, reply);
      if ((message.flags & 8) !== 0 && message.request === 11) this.#connection.send(message.request, REPLY_FLAGS, new Uint8Array(8)); }`,
    areas: ['reply-ack', 'ring.base'],
  },
  {
    id: 'reply-flag-missing',
    bug: 'replies do not have the reply flag',
    file: BACKEND,
    search: 'this.#connection.send(message.request, REPLY_FLAGS, reply);',
    replace: 'this.#connection.send(message.request, REPLY_FLAGS & ~4, reply);',
    areas: ['negotiation'],
  },
  {
    id: 'reply-names-another-request',
    bug: 'a refused request is answered under another number',
    file: BACKEND,
    search: 'this.#connection.send(message.request, REPLY_FLAGS, reply);',
    replace: 'this.#connection.send(reply.length === 8 ? 1 : message.request, REPLY_FLAGS, reply);',
    areas: ['reply-ack'],
  },
  {
    id: 'feature-gates-open',
    bug: 'requests are served whose protocol feature was not negotiated',
    file: DISPATCH,
    search: 'if (row.feature !== undefined && !state.hasProtocolFeature(row.feature))',
    replace: 'if (false)',
    areas: ['negotiation', 'reply-ack', 'memory'],
  },
  {
    id: 'version-unchecked',
    bug: 'messages of another version are served',
    file: DISPATCH,
    search: `try {
      if (!hasVersion(flags))`,
    replace: `try {
      if (false)`,
    areas: ['framing.version'],
  },
  {
    id: 'unknown-request-ends-connection',
    bug: 'a request that is not known ends the connection',
    file: DISPATCH,
    search: 'if (row === undefined && !hasVersion(flags))',
    replace: 'if (row === undefined)',
    areas: ['framing.unknown'],
  },
  {
    id: 'descriptor-count-unchecked',
    bug: 'surplus and missing descriptors are not noticed',
    file: DISPATCH,
    search: 'if (fds < min || fds > max)',
    replace: 'if (false)',
    areas: ['descriptors', 'memory.add'],
  },
  {
    id: 'surplus-descriptors-leak',
    bug: 'descriptors that nobody took stay open',
    file: BACKEND,
    search: `for (const fd of message.fds)
      fd.close();`,
    replace: 'void 0;',
    areas: ['descriptors'],
  },
  {
    id: 'header-in-one-read',
    bug: 'a header must come in one piece',
    file: CONNECTION,
    search: 'this.#received += result;',
    replace:
      "this.#received += result; if (this.#header === undefined && this.#received < 12) throw new ProtocolError('BAD_HEADER', 'short');",
    areas: ['framing.split'],
  },
  {
    id: 'payload-in-one-read',
    bug: 'a payload must come in one piece',
    file: CONNECTION,
    search: 'this.#received += result;',
    replace:
      "if (this.#header !== undefined && result < end - this.#received) throw new ProtocolError('BAD_HEADER', 'short'); this.#received += result;",
    areas: ['framing.split'],
  },
  {
    id: 'reads-beyond-message',
    bug: 'octets of the next message are taken for this one',
    file: CONNECTION,
    search: 'this.#octets.subarray(this.#received, end), this.#fds);',
    replace: 'this.#octets.subarray(this.#received), this.#fds);',
    areas: ['framing.coalesced'],
  },
  {
    id: 'enabled-only-by-message',
    bug: 'rings are not enabled by SET_FEATURES without PROTOCOL_FEATURES',
    file: STATE,
    search: `if (!this.hasFeature(VHOST_USER_F_PROTOCOL_FEATURES))
      vring.setEnabled(true);`,
    replace: 'void vring;',
    areas: ['ring.enable'],
  },
  {
    id: 'too-few-queues',
    bug: 'GET_QUEUE_NUM does not count the hiprio queue',
    file: NEGOTIATION,
    search: 'BigInt(state.device.queueCount)',
    replace: 'BigInt(state.device.queueCount - 2)',
    areas: ['queues.number', 'negotiation'],
  },
  {
    id: 'status-forgotten',
    bug: 'GET_STATUS does not answer what SET_STATUS said',
    file: NEGOTIATION,
    search: 'state.status = Number(value);',
    replace: 'void value;',
    areas: ['status'],
  },
  {
    id: 'config-written',
    bug: 'SET_CONFIG of a read-only field is accepted',
    file: NEGOTIATION,
    search: `if ((flags & CONFIG_FLAG_MIGRATION) === 0)
      throw new ProtocolError('BAD_VALUE', \`SET_CONFIG at \${offset}: read-only, allowed only for live migration\`);
      if (!Buffer.from(ours).equals(contents))`,
    replace: 'if (ours.length !== contents.length)',
    areas: ['config'],
  },
  {
    id: 'config-beyond-end',
    bug: 'GET_CONFIG beyond the end answers less than was asked for',
    file: NEGOTIATION,
    search: 'if (size === 0 || offset + size > config.length)',
    replace: 'if (false)',
    areas: ['config'],
  },
  {
    id: 'reset-keeps-rings-enabled',
    bug: 'RESET_DEVICE does not disable rings',
    file: 'src/vhost/vring',
    search: `this.stop();
      this.#isEnabled = false;`,
    replace: 'this.stop();',
    areas: ['ring.reset', 'reset'],
  },
  {
    id: 'reset-ignored',
    bug: 'RESET_DEVICE does nothing',
    file: NEGOTIATION,
    search: 'state.resetDevice();',
    replace: 'void 0;',
    areas: ['ring.reset', 'reset'],
  },
];
