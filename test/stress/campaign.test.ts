/** Whole stress runs, against back-ends in the same thread. */
import { expect, test } from 'vitest';
import type { CampaignOptions } from '../../src/stress/campaign-options.ts';
import { runCampaign, runSequence } from '../../src/stress/campaign.ts';
import type { StressReport } from '../../src/stress/report.ts';
import { reportText } from '../../src/stress/report.ts';
import { openFds } from '../vhost/rig.ts';
import { dropsNeighbour, inProcess, mapsElsewhere, refusesAt, takesOneTooMany } from './broken-backends.ts';

const options = (
  source: CampaignOptions['source'],
  more: Partial<CampaignOptions> = {},
): CampaignOptions => ({
  source,
  seed: 5,
  operations: 300,
  restarts: 2,
  timeoutMs: 500,
  shrinkMs: 60_000,
  ...more,
});

const kinds = ({ violations }: StressReport) => violations.map(({ kind }) => kind);

test.each([3, 8, 40])('a right back-end of %i slots passes, and nothing is left over here', async (slots) => {
  const before = openFds();
  const report = await runCampaign(options(inProcess(slots), { crossesSlots: true }));
  expect(reportText(report)).toContain('no violation');
  expect(report.phases.map(({ outcome }) => outcome)).toEqual(['passed', 'passed', 'passed']);
  expect(report.limits).toEqual({ advertised: slots, reached: slots, oneMore: 'refused' });
  expect(report.figures.restarts).toBe(2);
  expect(openFds()).toBe(before);
});

test('without I/O memory comes and goes all the same', async () => {
  const report = await runCampaign(options(inProcess(8), { device: 'any', requestQueues: 2 }));
  expect(report.violations).toEqual([]);
  expect(report.figures.changes).toBeGreaterThan(300);
  expect(report.figures.read.count + report.figures.write.count).toBe(0);
});

test('fewer slots than there are: the limit itself is not tried', async () => {
  const report = await runCampaign(options(inProcess(20), { slots: 8 }));
  expect(report.limits).toEqual({ advertised: 20, reached: 8, oneMore: 'not tested' });
  expect(report.violations).toEqual([]);
});

test('room for RAM only: there is nothing to change, and the storm ends', async () => {
  const report = await runCampaign(options(inProcess(1)));
  expect(report.violations).toEqual([]);
  expect(report.phases[1]).toMatchObject({ name: 'storm', outcome: 'passed' });
});

test('no room at all is a refusal', async () => {
  const report = await runCampaign(options(inProcess(0), { shrinkMs: 0 }));
  expect(report.violations[0]).toMatchObject({ kind: 'refused', phase: 'limit' });
  expect(report.violations[0]!.text).toMatch(/memory slots limit \(0\) is less than .* used \(1\)/);
});

test('one region too many is found, and needs two operations', async () => {
  const report = await runCampaign(options(inProcess(11, takesOneTooMany)));
  expect(kinds(report)).toEqual(['limit']);
  expect(report.limits.oneMore).toBe('accepted');
  expect(report.violations[0]).toMatchObject({
    isShortest: true,
    sequence: [{ op: 'fill' }, { op: 'beyond' }],
  });
  // it is no reason to stop: the other phases were run
  expect(report.phases.map(({ outcome }) => outcome)).toEqual(['violated', 'passed', 'passed']);
});

test('a region that is lost with another one is found, and cut down to a few operations', async () => {
  const report = await runCampaign(options(inProcess(10, dropsNeighbour(3)), { restarts: 0 }));
  const storm = report.violations.find(({ phase }) => phase === 'storm');
  expect(storm?.isShortest).toBe(true);
  expect(storm?.sequence.length).toBeLessThanOrEqual(8);
  const again = await runSequence(options(inProcess(10, dropsNeighbour(3))), storm!.sequence);
  expect(kinds(again)).toEqual([storm?.kind]);
  const right = await runSequence(options(inProcess(10)), storm!.sequence);
  expect(kinds(right)).toEqual([]);
});

test('memory that is not the one that was given is found, and needs three operations', async () => {
  const report = await runCampaign(options(inProcess(12, mapsElsewhere(7)), { operations: 0, restarts: 0 }));
  expect(kinds(report)).toEqual(['lost']);
  expect(report.violations[0]?.sequence.map(({ op }) => op)).toEqual(['write', 'fill', 'read']);
});

test('a refusal within the limit is found', async () => {
  const report = await runCampaign(options(inProcess(10, refusesAt(4)), { operations: 0, restarts: 0 }));
  expect(new Set(kinds(report))).toEqual(new Set(['refused']));
  const [first] = report.violations;
  expect(first?.sequence).toEqual([{ op: 'fill' }]);
});

test('a run that is stopped says so', async () => {
  let isStopped = false;
  const onProgress = (phase: string, done: number): void => {
    isStopped ||= phase === 'storm' && done > 10;
  };
  const report = await runCampaign(
    options(inProcess(20), { operations: 1e6, onProgress, isStopped: () => isStopped }),
  );
  expect(report.phases.map(({ outcome }) => outcome)).toEqual(['passed', 'stopped', 'skipped']);
  expect(report.violations).toEqual([]);
});
