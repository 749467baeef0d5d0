/** The whole suite against our daemon as built, and what it finds in peers if they are installed. */
import { existsSync, mkdtempSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, describe, expect, test } from 'vitest';
import { runConform } from '../../src/cli/conform.ts';
import type { CaseResult } from '../../src/conformance/report.ts';
import { parseReport } from '../../src/conformance/reports/json.ts';
import { KIT, REPOSITORY } from '../support/guest-kit.ts';

const folder = mkdtempSync(join(tmpdir(), 'conform-system-'));
afterAll(() => rmSync(folder, { recursive: true }));

const OURS = `node ${join(REPOSITORY, 'dist/src/cli/vhost-user-fs.js')} --socket-path {socket} --shared-dir {dir} --log-level=error`;
const peer = (name: string): string => join(KIT, 'peers', name);

async function run(
  command: string,
  only?: readonly string[],
): Promise<{ readonly status: number; readonly cases: readonly CaseResult[] }> {
  const report = join(folder, 'report.json');
  const status = await runConform({
    command,
    device: 'fs',
    timeoutMs: 2000,
    failOn: 'should',
    report: [report],
    output: { write: () => undefined },
    ...(only === undefined ? {} : { only }),
  });
  return { status, cases: parseReport(readFileSync(report, 'utf8'), report).cases };
}

const notPassed = (cases: readonly CaseResult[]): readonly string[] =>
  cases
    .filter(({ verdict }) => verdict === 'fail' || verdict === 'dead')
    .map(({ id, verdict, seen }) => `${id} ${verdict}: ${seen}`);

test('our daemon passes every case at every level', async () => {
  const { status, cases } = await run(`${OURS} --tag=conform --num-request-queues=2`);
  expect(notPassed(cases)).toEqual([]);
  expect(status).toBe(0);
  expect(cases.filter(({ verdict }) => verdict === 'pass').length).toBeGreaterThan(300);
});

const verdictsOf = async (
  command: string,
  only: readonly string[],
): Promise<{ readonly [id: string]: string }> => {
  const { cases } = await run(command, only);
  return Object.fromEntries(cases.map(({ id, verdict }) => [id, verdict]));
};

describe.skipIf(!existsSync(peer('run-rust')))('what is known of virtiofsd 1.13.2 is found', () => {
  test('its limit is not enforced, a wrong user address removes a region, a hot-added region is not logged, a ring of 3 is accepted', async () => {
    const command = `${peer('run-rust')} --socket-path={socket} --shared-dir={dir} --sandbox=none --seccomp=none`;
    const known = ['memory.limit.enforced', 'memory.remove.wrong-user', 'log.added-after', 'ring.num.three'];
    const good = ['memory.limit.usable', 'memory.remove.unmaps', 'log.added-before', 'ring.num.8'];
    expect(await verdictsOf(command, [...known, ...good])).toEqual(
      Object.fromEntries([...known.map((id) => [id, 'fail']), ...good.map((id) => [id, 'pass'])]),
    );
  });
});

describe.skipIf(!existsSync(peer('run-c')))('what is known of virtiofsd 7.2 is found', () => {
  test('a header in two pieces ends it; a ring that does not exist is accepted', async () => {
    const command = `${peer('run-c')} --socket-path={socket} -o source={dir} -o sandbox=chroot`;
    const verdicts = await verdictsOf(command, ['framing.split.header', 'framing.coalesced', 'ring.index']);
    expect(verdicts['framing.split.header']).toBe('dead');
    expect(verdicts['framing.coalesced']).toBe('pass');
    expect(Object.entries(verdicts).filter(([id]) => id.startsWith('ring.index'))).not.toEqual([]);
    expect(Object.entries(verdicts).filter(([id, v]) => id.startsWith('ring.index') && v === 'pass')).toEqual(
      [],
    );
  });
});
