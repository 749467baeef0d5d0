import { existsSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { readRecording, replay } from './recording.ts';

const fixtures = fileURLToPath(new URL('../../fixtures/vhost-user', import.meta.url));
const recorded = ['captures', 'captures-10.0.13'].flatMap((folder) =>
  readdirSync(join(fixtures, folder))
    .filter((name) => existsSync(join(fixtures, folder, name, 'qmp.jsonl.gz')))
    .map((name) => [folder, name] as const),
);

describe('devices, requests and resets recorded with QEMU', () => {
  test.each(recorded)(
    '%s/%s: the same addresses, answers, refusals, and sections in the same order',
    (folder, name) => {
      expect(replay(readRecording(join(fixtures, folder), name))).toEqual([]);
    },
  );
});
