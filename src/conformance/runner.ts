/**
 * Runs cases against a back-end, one after the other, each on a connection of its own.
 *
 * One case never hides another: a back-end that failed or died is started anew before the next, if that is possible.
 * A case that never ends is ended by its clock; what it opened is closed.
 */
import { setImmediate as nextTurn } from 'node:timers/promises';
import { hasBit } from '../../protocol/bits.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { BackendGone, type BackendFacts, type BackendUnderTest } from './backend.ts';
import type { ConformanceCase } from './case.ts';
import type { Device } from './device.ts';
import { checkLiveness } from './liveness.ts';
import type { CaseResult } from './report.ts';
import { Rig } from './rig.ts';
import { CaseEnd, type Verdict } from './verdict.ts';

export interface RunOptions {
  readonly backend: BackendUnderTest;
  readonly facts: BackendFacts;
  readonly device: Device;
  readonly cases: readonly ConformanceCase[];
  /** How long one answer may take; 2 s unless said otherwise. */
  readonly timeoutMs?: number;
  /** How long one case may take; 15 s unless said otherwise. */
  readonly caseTimeoutMs?: number;
  readonly onResult?: (result: CaseResult) => void;
}

export const TIMEOUT_MS = 2000;
const CASE_TIMEOUT_MS = 15_000;
/** How long a back-end that hung up may take to end, for its ending to be reported. */
const ENDING_MS = 100;
/** How long one may take to end after a wrong answer: some answer, and then give up. */
const LAG_MS = 25;

/** @throws {BackendGone} if the back-end cannot be started anew */
export async function runCases(options: RunOptions): Promise<readonly CaseResult[]> {
  const { backend, facts, cases, onResult } = options;
  const results: CaseResult[] = [];
  for (const each of cases) {
    const result = await confirmed(options, each);
    results.push(result);
    onResult?.(result);
    const isTainted = result.verdict === 'fail' || result.verdict === 'dead';
    if (isTainted || (!facts.reconnects && result.verdict !== 'skip')) await backend.restart();
  }
  return results;
}

/**
 * Silence is what a busy machine looks like, too: a case in which the back-end fell silent is run once more, on a fresh
 * one, and only what happens again counts.
 */
async function confirmed(options: RunOptions, each: ConformanceCase): Promise<CaseResult> {
  const first = await runCase(options, each);
  const isSilent = first.verdict === 'dead' && options.backend.ending() === undefined;
  if (!isSilent) return first;
  await options.backend.restart();
  const second = await runCase(options, each);
  if (second.verdict !== 'pass') return second;
  return { ...second, seen: `as expected when it was run again; the first time: ${first.seen}` };
}

async function runCase(options: RunOptions, each: ConformanceCase): Promise<CaseResult> {
  const { backend, facts, device, timeoutMs = TIMEOUT_MS, caseTimeoutMs = CASE_TIMEOUT_MS } = options;
  const { id, title, level, spec, expected } = each;
  const startedAt = performance.now();
  const missing = whatIsMissing(each, options);
  if (missing !== undefined)
    return { id, title, level, spec, expected, verdict: 'skip', seen: missing, trace: [], ms: 0 };
  using rig = new Rig({ backend, facts, device, timeoutMs, caseTimeoutMs });
  const { verdict, seen } = await judge(rig, each, backend);
  const ms = Math.round(performance.now() - startedAt);
  await nextTurn();
  return { id, title, level, spec, expected, verdict, seen, trace: rig.trace.lines(verdict === 'pass'), ms };
}

interface Judgement {
  readonly verdict: Verdict;
  readonly seen: string;
}

async function judge(rig: Rig, each: ConformanceCase, backend: BackendUnderTest): Promise<Judgement> {
  try {
    each.run(rig);
    checkLiveness(rig, each);
    return { verdict: 'pass', seen: 'as expected' };
  } catch (error) {
    if (error instanceof BackendGone) return { verdict: 'dead', seen: withMessages(error.message, backend) };
    if (!(error instanceof CaseEnd)) throw error;
    if (error.verdict === 'skip') return { verdict: 'skip', seen: error.message };
    const ending = await endingOf(backend, error.verdict === 'fail' ? LAG_MS : ENDING_MS);
    if (ending !== undefined)
      return {
        verdict: 'dead',
        seen: withMessages(`${error.message}; the back-end ended: ${ending}`, backend),
      };
    // It lives. Closing the connection is not what was expected, but whoever connects anew is served.
    if (error.verdict === 'hung up') return afterHangUp(rig, each, error.message);
    return { verdict: error.verdict, seen: error.message };
  }
}

function afterHangUp(rig: Rig, each: ConformanceCase, seen: string): Judgement {
  try {
    checkLiveness(rig, { ...each, aftermath: 'new connection' });
    return { verdict: 'fail', seen: `${seen}; a new connection is served` };
  } catch (error) {
    if (!(error instanceof CaseEnd || error instanceof BackendGone)) throw error;
    return { verdict: 'dead', seen: `${seen}; on a new connection: ${error.message}` };
  }
}

/** How it ended, if it does so within that time. */
async function endingOf(backend: BackendUnderTest, withinMs: number): Promise<string | undefined> {
  const endsAt = performance.now() + withinMs;
  for (;;) {
    await nextTurn();
    const ending = backend.ending();
    if (ending !== undefined || backend.pid === undefined || performance.now() >= endsAt) return ending;
    await new Promise((done) => setTimeout(done, 5));
  }
}

const withMessages = (seen: string, { messages }: BackendUnderTest): string => {
  const last = messages.trim().split('\n').at(-1) ?? '';
  return last === '' ? seen : `${seen}; it said: ${last.slice(0, 300)}`;
};

/** Why the case cannot be run; undefined if it can. */
function whatIsMissing(
  { needs = {} }: ConformanceCase,
  { backend, facts, device }: RunOptions,
): string | undefined {
  if (needs.device !== undefined && !needs.device.includes(device.name))
    return `is about ${needs.device.join(' or ')}, the device is ${device.name}`;
  const feature = needs.features?.find((bit) => !hasBit(facts.features, bit));
  if (feature !== undefined) return `the back-end does not offer feature ${feature}`;
  const protocolFeature = needs.protocolFeatures?.find(
    (name) => !hasBit(facts.protocolFeatures, ProtocolFeature[name]),
  );
  if (protocolFeature !== undefined) return `the back-end does not offer ${protocolFeature}`;
  if ((needs.queues ?? 0) > facts.queues)
    return `the back-end has ${facts.queues} rings, needed ${needs.queues}`;
  if ((needs.memSlots ?? 0) > facts.memSlots)
    return `the back-end has ${facts.memSlots} memory slots, needed ${needs.memSlots}`;
  if (needs.process === true && backend.pid === undefined) return 'its process is not known';
  if (needs.reconnect === true && !facts.reconnects) return 'the back-end ends with its connection';
  return undefined;
}
