/** The front-end against recorded sessions of QEMU: the same sections, and the same memory devices, give the same messages. */
import { basename, dirname } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
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
