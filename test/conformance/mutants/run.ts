/**
 * `npm run conform:mutants [-- ID…]`: seeds one bug after the other and says which case noticed.
 * `--sample N` tries some of each kind; `--table FILE` writes what came out as a table.
 *
 * The exit status is 0 if the original passes, every mutant could be made, and 95 of 100 were noticed.
 */
import { fork } from 'node:child_process';
import { writeFileSync } from 'node:fs';
import { availableParallelism } from 'node:os';
import { fileURLToPath } from 'node:url';
import { parseArgs } from 'node:util';
import { MUTANTS } from './index.ts';
import { BASELINE, type JobResult } from './jobs.ts';
import type { Outcome } from './workshop.ts';

const MAX_WORKERS = 4;
/** Of all mutants. */
const REQUIRED = 0.95;

const { values, positionals } = parseArgs({
  allowPositionals: true,
  options: { sample: { type: 'string' }, table: { type: 'string' } },
});
const unknown = positionals.find((id) => !MUTANTS.some((mutant) => mutant.id === id));
if (unknown !== undefined) throw new Error(`no mutant is called ${unknown}`);
const ids = positionals.length > 0 ? positionals : MUTANTS.map(({ id }) => id);
const step = Math.max(1, Math.ceil(ids.length / Number(values.sample ?? ids.length)));
/** Every so many, so that a sample has some of each kind. */
const chosen = ids.filter((_, i) => i % step === 0);

const outcomes: Outcome[] = [];
const troubles: string[] = [];
const queue = [BASELINE, ...chosen];
const workers = Math.min(MAX_WORKERS, availableParallelism());
await Promise.all(Array.from({ length: workers }, () => work()));

const bug = (id: string): string => MUTANTS.find((mutant) => mutant.id === id)!.bug;
const survivors = outcomes.filter(({ verdict }) => verdict !== 'killed');
for (const { id, verdict, seen } of survivors) console.log(`${verdict}: ${id} (${bug(id)}) ${seen}`);
for (const trouble of troubles) console.log(trouble);
const killed = outcomes.length - survivors.length;
console.log(`${killed} of ${outcomes.length} mutants killed`);
if (values.table !== undefined) writeFileSync(values.table, table());
process.exitCode = troubles.length === 0 && killed >= REQUIRED * outcomes.length ? 0 : 1;

/** Gives a worker one job after the other. */
async function work(): Promise<void> {
  const child = fork(fileURLToPath(new URL('./worker.js', import.meta.url)), { stdio: 'inherit' });
  for (let id = queue.shift(); id !== undefined; id = queue.shift()) {
    const answered = new Promise<JobResult>((resolve, reject) => {
      child.once('message', (result) => resolve(result as JobResult));
      child.once('exit', (status) => reject(new Error(`a worker ended, status ${status}`)));
    });
    child.send({ id });
    note(id, await answered);
    child.removeAllListeners();
  }
  const ended = new Promise((resolve) => child.once('exit', resolve));
  child.send({});
  await ended;
}

function note(id: string, { outcome, failures = [], error }: JobResult): void {
  if (error !== undefined) troubles.push(`${id}: ${error}`);
  for (const failure of failures) troubles.push(`the original fails ${failure}`);
  if (outcome === undefined) return;
  outcomes.push(outcome);
  const { verdict, by, cases, ms } = outcome;
  const cells = [verdict.padEnd(9), id.padEnd(34), by.padEnd(36), `${cases} cases`.padStart(9)];
  console.log(`${cells.join(' ')} ${String(ms).padStart(6)} ms`);
}

/** In the order of the list, whenever each was done. */
function table(): string {
  const rows = MUTANTS.flatMap(({ id, bug: what, file }) => {
    const outcome = outcomes.find((each) => each.id === id);
    return outcome === undefined
      ? []
      : [`| ${id} | ${file} | ${what} | ${outcome.by === '' ? outcome.verdict : outcome.by} |`];
  });
  return [
    '# Seeded bugs',
    '',
    `What \`npm run conform:mutants\` did to our back-end, one at a time, and the case of the conformance suite that noticed first: ${killed} of ${outcomes.length}.`,
    '',
    '| mutant | file | bug | noticed by |',
    '|---|---|---|---|',
    ...rows,
    '',
  ].join('\n');
}
