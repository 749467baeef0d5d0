/** What was sent and seen in a case, as lines of text. */
import { isReply, needsReply } from '../../protocol/vhost-user.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { payloadFields, type PayloadFields } from '../vhost/conversation-payload.ts';
import { requestName } from '../vhost/conversation-names.ts';

const MAX_LINES = 60;
const KEPT_AT_START = 20;
const MAX_TEXT = 220;

interface TracedFrame {
  readonly request: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly fds: number;
}

/** The first and the last lines; what is between them is counted. */
export class Trace {
  readonly #first: string[] = [];
  readonly #last: string[] = [];
  #left = 0;

  get lines(): readonly string[] {
    return [...this.#first, ...(this.#left === 0 ? [] : [`… ${this.#left} more …`]), ...this.#last];
  }

  sent(frame: TracedFrame): void {
    this.note(`> ${frameText(frame)}`);
  }

  seen(frame: TracedFrame): void {
    this.note(`< ${frameText(frame)}`);
  }

  note(line: string): void {
    const text = line.length > MAX_TEXT ? `${line.slice(0, MAX_TEXT)}…` : line;
    if (this.#first.length < KEPT_AT_START) {
      this.#first.push(text);
      return;
    }
    this.#last.push(text);
    if (this.#last.length <= MAX_LINES - KEPT_AT_START) return;
    this.#last.shift();
    this.#left += 1;
  }
}

function frameText({ request, flags, payload, fds }: TracedFrame): string {
  const parts = [
    requestName('main', request),
    isReply(flags) ? 'reply' : '',
    needsReply(flags) ? 'need_reply' : '',
    (flags & 3) === 1 ? '' : `version ${flags & 3}`,
    fieldsText(payloadFields('main', isAck(request, flags) ? 0 : request, flags, payload)),
    fds === 0 ? '' : `[${fds} fd${fds === 1 ? '' : 's'}]`,
  ];
  return parts.filter((part) => part !== '').join(' ');
}

/** A status, whatever number the request itself carries. */
const isAck = (request: number, flags: number): boolean =>
  isReply(flags) && frontendRow(request)?.reply === 'ack';

function fieldsText(fields: PayloadFields): string {
  const texts = Object.entries(fields).map(([name, value]) => {
    if (name === 'bits') return '';
    if (Array.isArray(value))
      return (value as readonly PayloadFields[]).map((each) => `{${fieldsText(each)}}`).join(' ');
    if (typeof value === 'object') return fieldsText(value as PayloadFields);
    if (name === 'padding' && Number(value) === 0) return '';
    return name === 'u64' ? String(value) : `${name}=${String(value)}`;
  });
  return texts.filter((text) => text !== '').join(' ');
}
