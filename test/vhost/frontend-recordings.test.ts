/** The front-end against recorded sessions of QEMU: the same sections, and the same memory devices, give the same messages. */
import { cpSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { basename, dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, onTestFinished, test } from 'vitest';
import { findRecordings } from '../oracle/frontend-recording.ts';
import { LEVELS, replay } from '../oracle/frontend-replay.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/vhost-user', import.meta.url));
const recordings = findRecordings([fixtures]).map((path): [string, string] => [
  `${basename(dirname(path))}/${basename(path)}`,
  path,
]);

/** How far a recording goes in which QEMU or the back-end dies, and who. */
const CUT = new Map([
  ['captures/boot-private-ram', [26, 'the back-end dies']],
  ['captures/mq-rust-refused', [14, 'the back-end dies']],
  ['captures/stopped-dimm-gone', [41, 'QEMU dies here; we send REM_MEM_REG, QEMU nothing more']],
  ['captures-10.0.13/stopped-dimm-gone', [41, 'QEMU dies here; we send REM_MEM_REG, QEMU nothing more']],
]);

test('there are recordings of both versions', () => {
  expect(recordings.length).toBe(36);
});

describe.each(LEVELS)('level %i', (level) => {
  test.each(recordings)('%s: the front-end sends what QEMU sent', (name, path) => {
    const { difference, messages, cut } = replay(path, level);
    expect(difference).toBeUndefined();
    expect(cut === undefined ? undefined : [messages, cut]).toEqual(CUT.get(name));
  });
});

/** A copy of a recording that was made without memslots to spare, its lines changed. */
function changed(file: RegExp, change: (text: string) => string): string {
  const directory = mkdtempSync(join(tmpdir(), 'recording-'));
  onTestFinished(() => rmSync(directory, { recursive: true }));
  cpSync(join(fixtures, 'captures/dimm-plug-unplug'), directory, { recursive: true });
  for (const name of readdirSync(directory).filter((each) => file.test(each))) {
    const path = join(directory, name);
    writeFileSync(path, gzipSync(change(gunzipSync(readFileSync(path)).toString())));
  }
  return directory;
}

test('a plug that QEMU lets in though the back-end has no room is let in, and named', () => {
  const path = changed(/^messages/, (text) =>
    text.replaceAll(
      /240000000500000008000000[\da-f]{16}/g,
      `240000000500000008000000${'01'.padEnd(16, '0')}`,
    ),
  );
  expect(replay(path, 1)).toMatchObject({ forced: [] });
  const { difference, forced } = replay(path, 2);
  expect(difference).toBeUndefined();
  expect(forced.length).toBeGreaterThan(0);
  expect(forced[0]).toMatch(/is let in by QEMU; the rules refuse it: .*not enough free memory slots left/);
});

test.each<[string, (text: string) => string]>([
  ['no JSON', () => '{'],
  ['an event of a device that never came', (text) => `{"ev":"stop","dev":7}\n${text}`],
  ['an event nobody knows', (text) => text.replace('"ev": "stop"', '"ev": "pause"')],
  ['events of another shape', (text) => text.replaceAll('"flat"', '"flat2"').replaceAll('[[', '[[7,')],
])('%s is a difference of that recording, and nothing is thrown', (_, change) => {
  const path = changed(/^events/, change);
  for (const level of LEVELS) expect(replay(path, level).difference).toEqual(expect.any(String));
});
