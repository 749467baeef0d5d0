/** `vhost-user mtree`: what the text of `info mtree` comes to. */
import { ConfigError, MemoryError } from '../errors.ts';
import { parseMtree } from '../memory/mtree/parse.ts';
import { pictureOf } from '../memory/mtree/picture.ts';
import { reportText } from '../memory/mtree/report-text.ts';
import { reportOf, type MtreeReport } from '../memory/mtree/report.ts';
import { readInput, type ReportFormat, writeReport } from './report-file.ts';

export interface MtreeOptions {
  /** A file with the output of `info mtree`, best with `-D`, or of `info mtree -f`; `-` is standard input. */
  readonly file: string;
  readonly format: ReportFormat;
  /** Only the view of this address space. */
  readonly space?: string;
  /** Where to write; without it, standard output. */
  readonly output?: string;
}

/** @returns the exit status. @throws {ConfigError} if the file cannot be read or is something else */
export async function runMtree(options: MtreeOptions): Promise<number> {
  const report = selected(analysed(await readInput(options.file), options.file), options.space);
  await writeReport(RENDERERS[options.format](report), options.output);
  return 0;
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

const RENDERERS: Readonly<Record<ReportFormat, (report: MtreeReport) => string>> = {
  text: reportText,
  svg: pictureOf,
  // addresses need 64 bits: hexadecimal strings
  json: (report) =>
    `${JSON.stringify(report, (_, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value), 2)}\n`,
};
