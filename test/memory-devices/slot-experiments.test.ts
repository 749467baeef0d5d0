import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';
import { runExperiments } from '../oracle/slot-experiments.ts';

const verdicts = runExperiments([
  fileURLToPath(new URL('../../fixtures/vhost-user/matrix', import.meta.url)),
]);

describe('slot experiments of QEMU 10.0.2 and 10.0.13', () => {
  test('there are 396 rows', () => {
    expect(verdicts).toHaveLength(396);
  });

  test('every row ends as it did in QEMU', () => {
    const failed = verdicts.filter(({ differences }) => differences.length > 0);
    expect(failed.map(({ place, differences }) => `${place}: ${differences.join('; ')}`)).toEqual([]);
  });

  test('the counter bug of 10.0.2 is recognised where it shows, and only there', () => {
    const bugs = verdicts.filter(({ knownBug }) => knownBug !== undefined);
    expect(bugs.map(({ row }) => [row.qemu, row.group, row.backend_max])).toEqual([['10.0.2', 'dimms', 1]]);
  });
});
