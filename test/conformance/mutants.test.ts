/** The seeded bugs themselves: how they are made, and that they are told apart. Run by npm run conform:mutants. */
import { expect, test } from 'vitest';
import { CASES } from '../../src/conformance/cases/index.ts';
import { MUTANTS } from './mutants/index.ts';
import { mutate, type Mutant } from './mutants/mutant.ts';

const mutant = (search: string, replace: string): Mutant => ({
  id: 'example',
  bug: 'an example',
  file: 'example',
  search,
  replace,
  areas: [],
});

test('the text is replaced, whatever white space is in it', () => {
  const source = 'a();\n        if (b)\n            c();\nd();';
  expect(mutate(source, mutant('if (b) c();', '$& = 1;'))).toBe('a();\n        $& = 1;\nd();');
});

test.each([
  { name: 'is not there', source: 'a();' },
  { name: 'is there twice', source: 'b(); a(); b();' },
])('a text that $name is refused', ({ source }) => {
  expect(() => mutate(source, mutant('b();', 'c();'))).toThrow(/allowed once/);
});

test('mutants are told apart by their ids and by what they do', () => {
  expect(MUTANTS.length).toBeGreaterThanOrEqual(30);
  expect(new Set(MUTANTS.map(({ id }) => id)).size).toBe(MUTANTS.length);
  expect(new Set(MUTANTS.map(({ file, search, replace }) => `${file} ${search} ${replace}`)).size).toBe(
    MUTANTS.length,
  );
});

test('each names areas that have cases', () => {
  const unknown = MUTANTS.flatMap(({ areas }) => areas).filter(
    (area) => !CASES.some(({ id }) => id === area || id.startsWith(`${area}.`)),
  );
  expect(unknown).toEqual([]);
});
