/** What was sent and seen in a case, as lines of text. */
import { isReply, needsReply } from '../../protocol/vhost-user.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import { payloadFields, type PayloadFields } from '../vhost/conversation-payload.ts';
import { requestName } from '../vhost/conversation-names.ts';

/** Lines that are kept of a case that passed, and of one that did not: the last ones say what it was about. */
const KEPT_IF_PASSED = 5;
const KEPT = 16;
const AFTERWARDS = '-- afterwards';
const MAX_TEXT = 220;

interface TracedFrame {
  readonly request: number;
  readonly flags: number;
  readonly payload: Uint8Array;
  readonly fds: number;
}

/** The last lines, before and after the case's own part has ended. */
export class Trace {
  readonly #case: string[] = [];
  readonly #afterwards: string[] = [];
  #left = 0;
  #isOver = false;

  /** What reports show. */
  lines(hasPassed: boolean): readonly string[] {
    const kept = this.#case.slice(hasPassed ? -KEPT_IF_PASSED : -KEPT);
    const left = this.#left + this.#case.length - kept.length;
    return [
      ...(left === 0 ? [] : [`… ${left} lines …`]),
      ...kept,
      ...(hasPassed ? [] : this.#afterwards.slice(-KEPT)),
    ];
  }

  /** From here on it is seen whether the back-end still works. */
  caseEnds(): void {
    this.#isOver = true;
    this.note(AFTERWARDS);
  }

  sent(frame: TracedFrame): void {
    this.note(`> ${frameText(frame)}`);
  }

  seen(frame: TracedFrame): void {
    this.note(`< ${frameText(frame)}`);
  }

  note(line: string): void {
    const text = line.length > MAX_TEXT ? `${line.slice(0, MAX_TEXT)}…` : line;
    const lines = this.#isOver ? this.#afterwards : this.#case;
    lines.push(text);
    if (lines.length <= KEPT) return;
    lines.shift();
    if (!this.#isOver) this.#left += 1;
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
