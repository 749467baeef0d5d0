/** `vhost-user mtree`: what the text of `info mtree` comes to. */
import { readFile, writeFile } from 'node:fs/promises';
import { text } from 'node:stream/consumers';
import { ConfigError, MemoryError } from '../errors.ts';
import { parseMtree } from '../memory/mtree/parse.ts';
import { pictureOf } from '../memory/mtree/picture.ts';
import { reportText } from '../memory/mtree/report-text.ts';
import { reportOf, type MtreeReport } from '../memory/mtree/report.ts';

export const MTREE_FORMATS = ['text', 'json', 'svg'] as const;
export type MtreeFormat = (typeof MTREE_FORMATS)[number];

export interface MtreeOptions {
  /** A file with the output of `info mtree`, best with `-D`, or of `info mtree -f`; `-` is standard input. */
  readonly file: string;
  readonly format: MtreeFormat;
  /** Only the view of this address space. */
  readonly space?: string;
  /** Where to write; without it, standard output. */
  readonly output?: string;
}

/** @returns the exit status. @throws {ConfigError} if the file cannot be read or is something else */
export async function runMtree(options: MtreeOptions): Promise<number> {
  const report = selected(analysed(await input(options.file), options.file), options.space);
  const result = RENDERERS[options.format](report);
  try {
    if (options.output === undefined) process.stdout.write(result);
    else await writeFile(options.output, result);
  } catch (cause) {
    throw new ConfigError('SYSTEM', `${options.output ?? 'standard output'} cannot be written`, { cause });
  }
  return 0;
}

async function input(file: string): Promise<string> {
  try {
    return file === '-' ? await text(process.stdin) : await readFile(file, 'utf8');
  } catch (cause) {
    throw new ConfigError('SYSTEM', `${file} cannot be read`, { cause });
  }
}

function analysed(content: string, file: string): MtreeReport {
  try {
    return reportOf(parseMtree(content));
  } catch (cause) {
    if (cause instanceof MemoryError)
      throw new ConfigError('BAD_OPTION', `${file}: ${cause.message}`, { cause });
    throw cause;
  }
}

function selected(report: MtreeReport, space: string | undefined): MtreeReport {
  if (space === undefined) return report;
  const views = report.views.filter(({ spaces }) => spaces.includes(space));
  if (views.length === 0) {
    const names = [...new Set(report.views.flatMap(({ spaces }) => spaces))].join(', ');
    throw new ConfigError('BAD_OPTION', `no address space "${space}"; there are ${names}`);
  }
  return { ...report, views };
}

const RENDERERS: Readonly<Record<MtreeFormat, (report: MtreeReport) => string>> = {
  text: reportText,
  svg: pictureOf,
  // addresses need 64 bits: hexadecimal strings
  json: (report) =>
    `${JSON.stringify(report, (_, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value), 2)}\n`,
};
