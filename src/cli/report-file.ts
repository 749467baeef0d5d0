/** Commands that read one text and write one report: from a file or standard input, to a file or standard output. */
import { readFile, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { ConfigError } from '../errors.ts';

/** What a report can be written as. */
export const REPORT_FORMATS = ['text', 'json', 'svg'] as const;
export type ReportFormat = (typeof REPORT_FORMATS)[number];

/** @param file `-` is standard input. @throws {ConfigError} SYSTEM if it cannot be read */
export async function readInput(file: string): Promise<string> {
  try {
    return file === '-' ? await text(process.stdin) : await readFile(file, 'utf8');
  } catch (cause) {
    throw new ConfigError('SYSTEM', `${file} cannot be read`, { cause });
  }
}

/** @param file undefined is standard output. @throws {ConfigError} SYSTEM if it cannot be written */
export async function writeReport(report: string, file: string | undefined): Promise<void> {
  try {
    if (file === undefined) process.stdout.write(report);
    else await writeFile(file, report);
  } catch (cause) {
    throw new ConfigError('SYSTEM', `${file ?? 'standard output'} cannot be written`, { cause });
  }
}
