/** The suite against our own back-end, in this thread: what needs no process and no long waits. */
import { expect, test } from 'vitest';
import { areaOf } from '../../src/conformance/case.ts';
import { CASES } from '../../src/conformance/cases/index.ts';
import { DEVICES } from '../../src/conformance/device.ts';
import { runSuite } from '../../src/conformance/suite.ts';
import { PaperBackend } from './back-ends.ts';

/** Areas whose cases are about messages: fast, and in order. */
const AREAS = ['negotiation', 'reply-ack', 'memory', 'log', 'config', 'reset', 'status', 'channel'];

test('ids are unique, and made of words', () => {
  const ids = CASES.map(({ id }) => id);
  expect(new Set(ids).size).toBe(ids.length);
  expect(ids.filter((id) => !/^[a-z-]+(\.[a-z0-9-]+)+$/.test(id))).toEqual([]);
});

test('each case names a section and says what is there, in words and without a full stop', () => {
  const bad = CASES.filter(
    ({ spec, title, expected }) =>
      !spec.section.includes('§') ||
      [spec.says, title, expected].some((text) => text === '' || text.endsWith('.')),
  );
  expect(bad.map(({ id }) => id)).toEqual([]);
});

test('our own back-end passes, at every level', async () => {
  const backend = new PaperBackend();
  const report = await runSuite({
    backend,
    device: DEVICES.fs,
    cases: CASES.filter((each) => AREAS.includes(areaOf(each))),
    from: 'in-process',
    backendVersion: '',
    suiteVersion: '',
    timeoutMs: 500,
  });
  await backend.close();
  const bad = report.cases.filter(({ verdict }) => verdict === 'fail' || verdict === 'dead');
  expect(bad.map(({ id, verdict, seen }) => `${id} ${verdict}: ${seen}`)).toEqual([]);
  expect(report.cases.filter(({ verdict }) => verdict === 'pass').length).toBeGreaterThan(80);
});
