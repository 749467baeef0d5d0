/** A copy of the compiled back-end in which one file at a time is another, and the suite that is run against it. */
import { cpSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { BackendGone } from '../../../src/conformance/backend.ts';
import { BackendProcess } from '../../../src/conformance/backend-process.ts';
import type { ConformanceCase } from '../../../src/conformance/case.ts';
import { CASES } from '../../../src/conformance/cases/index.ts';
import { DEVICES } from '../../../src/conformance/device.ts';
import type { CaseResult } from '../../../src/conformance/report.ts';
import { runCases } from '../../../src/conformance/runner.ts';
import { survey } from '../../../src/conformance/survey.ts';
import { CaseEnd } from '../../../src/conformance/verdict.ts';
import { mutate, type Mutant } from './mutant.ts';

/** Where this was compiled to, and the back-end with it. */
const BUILT = fileURLToPath(new URL('../../..', import.meta.url));
/** How long an answer may take; the original is run with it too. */
const TIMEOUT_MS = 1000;
/** As long as it takes: a machine that is busy is no bug. */
const SURVEY_TIMEOUT_MS = 10_000;

export interface Outcome {
  readonly id: string;
  /** `broken`: the back-end does not even start, or the original fails the case too: that proves nothing. */
  readonly verdict: 'killed' | 'survived' | 'broken';
  /** The case that noticed. */
  readonly by: string;
  readonly seen: string;
  /** Cases run until then. */
  readonly cases: number;
  readonly ms: number;
}

export class Workshop implements Disposable {
  readonly #copy = mkdtempSync(join(dirname(BUILT), 'mutant-'));

  constructor() {
    for (const part of ['src', 'protocol'])
      cpSync(join(BUILT, part), join(this.#copy, part), { recursive: true });
  }

  /** What fails on the original: nothing, or the suite proves nothing. */
  async baseline(): Promise<readonly CaseResult[]> {
    return (await this.#run(CASES, false)).filter(isNoticed);
  }

  /** @throws {Error} if the place of the bug is not there any more */
  async try(mutant: Mutant): Promise<Outcome> {
    const path = join(this.#copy, `${mutant.file}.js`);
    const original = readFileSync(path, 'utf8');
    writeFileSync(path, mutate(original, mutant));
    const startedAt = performance.now();
    const outcome = (
      verdict: Outcome['verdict'],
      { by = '', seen = '', cases = 0 }: Partial<Outcome> = {},
    ): Outcome => ({
      id: mutant.id,
      verdict,
      by,
      seen,
      cases,
      ms: Math.round(performance.now() - startedAt),
    });
    try {
      const results = await this.#run(inOrder(mutant.areas), true);
      const noticed = results.find(isNoticed);
      if (noticed === undefined) return outcome('survived', { cases: results.length });
      writeFileSync(path, original);
      const again = (
        await this.#run(
          CASES.filter(({ id }) => id === noticed.id),
          true,
        )
      ).find(isNoticed);
      if (again !== undefined)
        return outcome('broken', { by: again.id, seen: `the original, too: ${again.seen}` });
      return outcome('killed', { by: noticed.id, seen: noticed.seen, cases: results.length });
    } catch (error) {
      if (!(error instanceof BackendGone)) throw error;
      // What answers wrongly is found before the first case; what does not start at all proves nothing.
      if (error.cause instanceof CaseEnd) return outcome('killed', { by: 'the survey', seen: error.message });
      return outcome('broken', { seen: error.message });
    } finally {
      writeFileSync(path, original);
    }
  }

  [Symbol.dispose](): void {
    rmSync(this.#copy, { recursive: true, force: true });
  }

  async #run(cases: readonly ConformanceCase[], stopsAtFirst: boolean): Promise<readonly CaseResult[]> {
    const command = [
      process.execPath,
      join(this.#copy, 'src/cli/vhost-user-fs.js'),
      '--socket-path={socket}',
      '--shared-dir={dir}',
      '--log-level=error',
      '--tag=conform',
      '--num-request-queues=2',
      '--queue-threads=0',
    ];
    const backend = new BackendProcess({ command, name: 'mutant' });
    const device = DEVICES.fs;
    const results: CaseResult[] = [];
    try {
      const facts = await survey(backend, device, SURVEY_TIMEOUT_MS);
      for (const each of cases) {
        const options = { backend, facts, device, cases: [each], timeoutMs: TIMEOUT_MS };
        results.push(...(await runCases(options)));
        if (stopsAtFirst && results.some(isNoticed)) break;
      }
      return results;
    } catch (error) {
      // It started, and does not any more: a case has found something.
      if (!(error instanceof BackendGone) || results.length === 0) throw error;
      return results;
    } finally {
      await backend.close();
    }
  }
}

const isNoticed = ({ verdict }: CaseResult): boolean => verdict === 'fail' || verdict === 'dead';

/** The cases of these areas first, in this order; then all others. */
function inOrder(areas: readonly string[]): readonly ConformanceCase[] {
  const first = areas.flatMap((area) => {
    const found = CASES.filter(({ id }) => id === area || id.startsWith(`${area}.`));
    if (found.length === 0) throw new Error(`no case begins with ${area}`);
    return found;
  });
  return [...new Set([...first, ...CASES])];
}
