/** What becomes of a case: by what it throws, and by what the back-end does meanwhile. */
import { readdirSync } from 'node:fs';
import { expect, test } from 'vitest';
import { FrontendRequest } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import type { BackendFacts } from '../../src/conformance/backend.ts';
import type { CaseNeeds, ConformanceCase } from '../../src/conformance/case.ts';
import { DEVICES } from '../../src/conformance/device.ts';
import type { CaseResult } from '../../src/conformance/report.ts';
import type { Rig } from '../../src/conformance/rig.ts';
import { runCases } from '../../src/conformance/runner.ts';
import { check, skipped } from '../../src/conformance/verdict.ts';
import { FACTS, ScriptedBackend, type Reaction } from './back-ends.ts';

const TIMEOUT_MS = 30;

const caseOf = (run: (rig: Rig) => void, change: Partial<ConformanceCase> = {}): ConformanceCase => ({
  id: 'test.case',
  title: 'a case',
  level: 'must',
  spec: { section: 'none', says: 'nothing' },
  expected: 'anything',
  run,
  ...change,
});

const good = caseOf(({ link }) => void link.ask(R.GET_FEATURES, undefined), { id: 'test.good' });

const run = async (
  cases: readonly ConformanceCase[],
  backend = new ScriptedBackend(),
  facts: Partial<BackendFacts> = {},
): Promise<readonly CaseResult[]> => {
  const results = await runCases({
    backend,
    facts: { ...FACTS, ...facts },
    device: DEVICES.any,
    cases,
    timeoutMs: TIMEOUT_MS,
    caseTimeoutMs: 10 * TIMEOUT_MS,
  });
  await backend.close();
  return results;
};

const verdicts = (results: readonly CaseResult[]): readonly string[] => results.map(({ verdict }) => verdict);

/** Reacts so to SET_OWNER on the first connection. */
const toOwner = (reaction: Reaction): ScriptedBackend =>
  new ScriptedBackend(({ request }, connection) =>
    request === FrontendRequest.SET_OWNER && connection === 1 ? reaction : 'answer',
  );
const asksAfterOwner = caseOf(({ link }) => {
  link.send(R.SET_OWNER, undefined);
  link.ask(R.GET_FEATURES, undefined);
});

test('a case that returns passes, and what was sent and seen is recorded', async () => {
  const [result] = await run([good]);
  expect(result).toMatchObject({ id: 'test.good', verdict: 'pass', expected: 'anything' });
  expect(result!.trace).toEqual(['> GET_FEATURES', '< GET_FEATURES reply 0x140000000']);
});

test('a case that fails says what it saw; the back-end is started anew', async () => {
  const backend = new ScriptedBackend();
  const [result, next] = await run([caseOf(() => check(false, 'it was blue')), good], backend);
  expect(result).toMatchObject({ verdict: 'fail', seen: 'it was blue' });
  expect(next!.verdict).toBe('pass');
  expect(backend.restarts).toBe(1);
});

test('a back-end that ends is dead: how it ended and what it said last are told, and the next case is run', async () => {
  const backend = toOwner('end');
  const [result, next] = await run([asksAfterOwner, good], backend);
  expect(result!.verdict).toBe('dead');
  expect(result!.seen).toMatch(/exit status 7.*said on stderr/);
  expect([next!.verdict, backend.restarts]).toEqual(['pass', 1]);
});

test('a back-end that hangs up and serves the next connection failed, but is not dead', async () => {
  const [result] = await run([asksAfterOwner], toOwner('hang up'));
  expect(result!.verdict).toBe('fail');
  expect(result!.seen).toMatch(/a new connection is served/);
});

test('a back-end that hangs up and serves nobody any more is dead', async () => {
  const backend = new ScriptedBackend((_, connection) => (connection === 1 ? 'hang up' : 'nothing'));
  const [result] = await run([asksAfterOwner], backend);
  expect(result!.verdict).toBe('dead');
});

test('a back-end that goes silent is dead after the deadline of an answer', async () => {
  const [result] = await run([good], new ScriptedBackend(() => 'nothing'));
  expect(result!.verdict).toBe('dead');
  expect(result!.seen).toMatch(/GET_FEATURES: no answer in \d+ ms/);
});

test('silence counts if it happens again: a case in which the back-end fell silent once passes', async () => {
  const backend = new ScriptedBackend((_, connection) => (connection === 1 ? 'nothing' : 'answer'));
  const [result] = await run([good], backend);
  expect(result!.verdict).toBe('pass');
  expect(result!.seen).toMatch(/^as expected when it was run again; the first time: GET_FEATURES: no answer/);
  expect(backend.restarts).toBe(1);
});

test('a back-end that goes silent after the case has passed is dead', async () => {
  let asked = 0;
  const backend = new ScriptedBackend(() => ((asked += 1) % 2 === 1 ? 'answer' : 'nothing'));
  const [result] = await run([good], backend);
  expect(result!.verdict).toBe('dead');
  expect(result!.trace).toContain('-- afterwards');
});

test('a case that goes on for ever is ended by its deadline', async () => {
  const endless = caseOf((rig) => {
    for (;;) {
      rig.pause(1);
      rig.link.ask(R.GET_FEATURES, undefined);
    }
  });
  const [result, next] = await run([endless, good]);
  expect([result!.verdict, next!.verdict]).toEqual(['fail', 'pass']);
  expect(result!.seen).toMatch(/is not over after 300 ms/);
});

test('a wrong answer fails: another request, a missing reply flag', async () => {
  const [result] = await run([
    caseOf(({ link }) => {
      link.sendFrame({ request: FrontendRequest.GET_FEATURES });
      link.expectReply('GET_QUEUE_NUM');
    }),
  ]);
  expect(result!.seen).toBe('GET_QUEUE_NUM: the answer is to request 1, expected 17');
});

test.each<readonly [CaseNeeds, RegExp]>([
  [{ device: ['fs', 'blk'] }, /fs or blk/],
  [{ features: [33] }, /feature 33/],
  [{ protocolFeatures: ['MQ'] }, /MQ/],
  [{ queues: 2 }, /1 rings, needed 2/],
  [{ memSlots: 9 }, /8 memory slots, needed 9/],
])('a case that needs %o is skipped, with the reason', async (needs, reason) => {
  const [result] = await run([caseOf(() => check(false, 'was run'), { needs })]);
  expect(result!.verdict).toBe('skip');
  expect(result!.seen).toMatch(reason);
});

test('a case that finds something missing is skipped, and nothing is started anew', async () => {
  const backend = new ScriptedBackend();
  expect(verdicts(await run([caseOf(() => skipped('no disk'))], backend))).toEqual(['skip']);
  expect(backend.restarts).toBe(0);
});

test('a back-end that ends with its connection is started for each case', async () => {
  const backend = new ScriptedBackend();
  expect(verdicts(await run([good, good, good], backend, { reconnects: false }))).toEqual([
    'pass',
    'pass',
    'pass',
  ]);
  expect(backend.restarts).toBe(3);
});

test('a defect of a case is not blamed on the back-end', async () => {
  await expect(
    run([
      caseOf(() => {
        throw new RangeError('ours');
      }),
    ]),
  ).rejects.toThrow('ours');
});

test('nothing a case opens is left open', async () => {
  const count = (): number => readdirSync('/proc/self/fd').length;
  const leaky = caseOf((rig) => {
    rig.memory(4096);
    rig.eventfd();
    rig.guest();
    rig.link.ask(R.GET_FEATURES, undefined);
    rig.reconnect();
  });
  await run([leaky]);
  const before = count();
  await run([leaky, leaky, caseOf((rig) => check(rig.eventfd() < 0, 'opened'))]);
  expect(count()).toBe(before);
});
