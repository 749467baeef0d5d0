/** `vhost-user plan`: what memslots devices take in the order in which they are plugged, and what is refused. */
import { readFile, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { ConfigError, MemoryDeviceError } from '../errors.ts';
import { parsePlan } from '../memory-devices/plan/config.ts';
import { pictureOf } from '../memory-devices/plan/picture.ts';
import { reportJson, reportOf, reportText, type PlanReport } from '../memory-devices/plan/report.ts';

export const PLAN_FORMATS = ['text', 'json', 'svg'] as const;
export type PlanFormat = (typeof PLAN_FORMATS)[number];

export interface PlanOptions {
  /** A file with the plan, see memory-devices/plan/config.ts; `-` is standard input. */
  readonly file: string;
  readonly format: PlanFormat;
  /** Where to write; without it, standard output. */
  readonly output?: string;
}

const RENDERERS: Readonly<Record<PlanFormat, (report: PlanReport) => string>> = {
  text: reportText,
  json: reportJson,
  svg: pictureOf,
};

/** @returns the exit status: 0, or 1 if something is refused. @throws {ConfigError} if the plan cannot be read or is wrong */
export async function runPlan(options: PlanOptions): Promise<number> {
  const report = planned(await input(options.file), options.file);
  const result = RENDERERS[options.format](report);
  try {
    if (options.output === undefined) process.stdout.write(result);
    else await writeFile(options.output, result);
  } catch (cause) {
    throw new ConfigError('SYSTEM', `${options.output ?? 'standard output'} cannot be written`, { cause });
  }
  return report.refused === 0 ? 0 : 1;
}

async function input(file: string): Promise<string> {
  try {
    return file === '-' ? await text(process.stdin) : await readFile(file, 'utf8');
  } catch (cause) {
    throw new ConfigError('SYSTEM', `${file} cannot be read`, { cause });
  }
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
