/**
 * The conformance suite finds bugs: those that are seeded into our back-end, one at a time.
 *
 * A dozen of them; `CONFORM_MUTANTS=all` tries all, which takes some minutes. That each can still be made is looked at
 * for all.
 */
import { spawnSync } from 'node:child_process';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { beforeAll, expect, test } from 'vitest';
import { MUTANTS } from '../conformance/mutants/index.ts';
import { mutate } from '../conformance/mutants/mutant.ts';
import { REPOSITORY } from '../support/guest-kit.ts';

const BUILT = join(REPOSITORY, '.cache/mutants');
const SAMPLE = 12;

beforeAll(() => {
  const compiled = spawnSync('npx', ['tsc', '-p', 'test/conformance/mutants/tsconfig.json'], {
    cwd: REPOSITORY,
    encoding: 'utf8',
  });
  if (compiled.status !== 0) throw new Error(compiled.stdout);
});

test.each(MUTANTS)('$id can be made: $bug', (mutant) => {
  const source = readFileSync(join(BUILT, `${mutant.file}.js`), 'utf8');
  expect(mutate(source, mutant)).not.toBe(source);
});

test('the suite passes the original and notices the bugs', { timeout: 1_200_000 }, () => {
  const isAll = process.env['CONFORM_MUTANTS'] === 'all';
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [join(BUILT, 'test/conformance/mutants/run.js'), ...(isAll ? [] : ['--sample', String(SAMPLE)])],
    { encoding: 'utf8', timeout: 1_200_000 },
  );
  expect(status, `${stdout}${stderr}`).toBe(0);
});
