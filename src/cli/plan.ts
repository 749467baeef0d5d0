/** `vhost-user plan`: what memslots devices take in the order in which they are plugged, and what is refused. */
import { ConfigError, MemoryDeviceError } from '../errors.ts';
import { parsePlan } from '../memory-devices/plan/config.ts';
import { pictureOf } from '../memory-devices/plan/picture.ts';
import { reportJson, reportOf, reportText, type PlanReport } from '../memory-devices/plan/report.ts';
import { readInput, type ReportFormat, writeReport } from './report-file.ts';

export interface PlanOptions {
  /** A file with the plan, see memory-devices/plan/config.ts; `-` is standard input. */
  readonly file: string;
  readonly format: ReportFormat;
  /** Where to write; without it, standard output. */
  readonly output?: string;
}

const RENDERERS: Readonly<Record<ReportFormat, (report: PlanReport) => string>> = {
  text: reportText,
  json: reportJson,
  svg: pictureOf,
};

/** @returns the exit status: 0, or 1 if something is refused. @throws {ConfigError} if the plan cannot be read or is wrong */
export async function runPlan(options: PlanOptions): Promise<number> {
  const report = planned(await readInput(options.file), options.file);
  await writeReport(RENDERERS[options.format](report), options.output);
  return report.refused === 0 ? 0 : 1;
}

function planned(content: string, file: string): PlanReport {
  try {
    return reportOf(parsePlan(content));
  } catch (cause) {
    if (cause instanceof MemoryDeviceError || cause instanceof ConfigError)
      throw new ConfigError('BAD_OPTION', `${file}: ${cause.message}`, { cause });
    throw cause;
  }
}
