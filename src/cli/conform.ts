/** `vhost-user conform`: runs the conformance suite against a back-end. */
import { basename } from 'node:path';
import { BackendGone } from '../conformance/backend.ts';
import { BackendProcess } from '../conformance/backend-process.ts';
import { BackendSocket } from '../conformance/backend-socket.ts';
import { type ConformanceCase, type DeviceName, type Level, LEVELS } from '../conformance/case.ts';
import { CASES } from '../conformance/cases/index.ts';
import { DEVICES } from '../conformance/device.ts';
import type { ConformanceReport } from '../conformance/report.ts';
import { reportHtml } from '../conformance/reports/html.ts';
import { parseReport, reportJson } from '../conformance/reports/json.ts';
import { reportTap } from '../conformance/reports/tap.ts';
import { resultLine, summaryText } from '../conformance/reports/terminal.ts';
import { runSuite } from '../conformance/suite.ts';
import { ConfigError } from '../errors.ts';
import {
  assertOneBackend,
  type BackendChoice,
  parseBackendCommand,
  withPlaceholders,
} from './backend-command.ts';
import { readInput, writeReport } from './report-file.ts';
import { type TextOutput, standardOutput } from './text-output.ts';
import { VERSION } from './version.ts';

export interface ConformOptions extends BackendChoice {
  readonly device: DeviceName;
  /** Ids, or beginnings of ids: `memory.add` runs all cases below it. */
  readonly only?: readonly string[];
  readonly report?: readonly string[];
  readonly timeoutMs: number;
  readonly list?: boolean;
  /** Reports written before, `.json`: they are compared, and nothing is run. */
  readonly compare?: readonly string[];
  readonly name?: string;
  readonly backendVersion?: string;
  /** The weakest level whose failures make the exit status 1. */
  readonly failOn: Level;
  /** Standard output unless told otherwise. */
  readonly output?: TextOutput;
}

/** @returns the exit status. @throws {ConfigError} if the back-end cannot be reached, or an option is wrong */
export async function runConform(options: ConformOptions): Promise<number> {
  const output = options.output ?? standardOutput();
  const cases = chosen(options.only);
  if (options.list === true) {
    for (const { id, level, title } of cases) output.write(`${id}  (${level})  ${title}\n`);
    return 0;
  }
  const paths = options.report ?? [];
  const renderers = paths.map(rendererOf);
  const writeAll = async (reports: readonly ConformanceReport[]): Promise<void> => {
    for (const [i, path] of paths.entries()) await writeReport(renderers[i]!(reports), path);
  };
  if (options.compare !== undefined) {
    const reports: ConformanceReport[] = [];
    for (const file of options.compare) reports.push(parseReport(await readInput(file), file));
    for (const each of reports) output.write(`${summaryText(each)}\n`);
    await writeAll(reports);
    return 0;
  }
  const report = await run(options, cases, output);
  output.write(`${summaryText(report)}\n`);
  await writeAll([report]);
  const counted = LEVELS.slice(0, LEVELS.indexOf(options.failOn) + 1);
  const isBad = report.cases.some(
    ({ verdict, level }) => counted.includes(level) && (verdict === 'fail' || verdict === 'dead'),
  );
  return isBad ? 1 : 0;
}

async function run(
  options: ConformOptions,
  cases: readonly ConformanceCase[],
  output: TextOutput,
): Promise<ConformanceReport> {
  const { command, socket, device, timeoutMs } = options;
  assertOneBackend(options);
  const started = command === undefined ? undefined : withPlaceholders(parseBackendCommand(command));
  const name = options.name ?? basename(started?.program ?? socket ?? '');
  const backend =
    started === undefined
      ? new BackendSocket({ path: socket ?? '', name })
      : new BackendProcess({ command: [started.program, ...started.args], name });
  const hasColours = process.stdout.isTTY && options.output === undefined;
  try {
    return await runSuite({
      backend,
      device: DEVICES[device],
      cases,
      timeoutMs,
      from: command ?? socket ?? '',
      backendVersion: options.backendVersion ?? '',
      suiteVersion: VERSION,
      onResult: (result) => output.write(resultLine(result, hasColours)),
    });
  } catch (error) {
    if (!(error instanceof BackendGone)) throw error;
    const said = backend.messages.trim();
    throw new ConfigError('SYSTEM', said === '' ? error.message : `${error.message}; it said: ${said}`, {
      cause: error,
    });
  } finally {
    await backend.close();
  }
}

function chosen(only: readonly string[] | undefined): readonly ConformanceCase[] {
  if (only === undefined) return CASES;
  const unknown = only.find((wanted) => !CASES.some(({ id }) => isBelow(id, wanted)));
  if (unknown !== undefined)
    throw new ConfigError('BAD_OPTION', `--only ${unknown}: no such case; see --list`);
  return CASES.filter(({ id }) => only.some((wanted) => isBelow(id, wanted)));
}

const isBelow = (id: string, wanted: string): boolean => id === wanted || id.startsWith(`${wanted}.`);

type Renderer = (reports: readonly ConformanceReport[]) => string;

/** @throws {ConfigError} before anything is run: a run that cannot be reported is wasted */
function rendererOf(path: string): Renderer {
  if (path.endsWith('.html')) return reportHtml;
  const single = path.endsWith('.json') ? reportJson : path.endsWith('.tap') ? reportTap : undefined;
  if (single === undefined)
    throw new ConfigError('BAD_OPTION', `--report ${path}: allowed endings .json, .html, .tap`);
  return ([report, ...others]) => {
    if (report === undefined || others.length > 0)
      throw new ConfigError('BAD_OPTION', `--report ${path}: only .html compares several back-ends`);
    return single(report);
  };
}
