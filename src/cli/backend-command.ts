/** A back-end as the operator names it: a command to start, or a socket it listens on. */
import { InvalidArgumentError } from 'commander';
import { DEVICE_NAMES, type DeviceName } from '../conformance/case.ts';
import { ConfigError } from '../errors.ts';
import type { BackendCommand } from './spawned-backend.ts';

/** What the value of `--command` is, for a help text. */
export const COMMAND_FORM =
  "'CMD {socket} {dir}'. Without {socket}, --socket-path={socket} --shared-dir={dir} follow";

/** Options that say which back-end is meant. */
export interface BackendChoice {
  /** `CMD {socket} {dir}`. */
  readonly command?: string;
  readonly socket?: string;
}

/**
 * A command line cut into words: quotes and backslashes as in a shell, nothing else of it. There is no shell, so that
 * the process started is the back-end.
 *
 * @throws {ConfigError} BAD_OPTION if there is no word, or a quote is left open
 */
export function parseBackendCommand(text: string): BackendCommand {
  const words: string[] = [];
  let word: string | undefined;
  for (const [piece] of text.matchAll(/\s+|'[^']*'|"(?:[^"\\]|\\.)*"|\\.|['"\\]|[^\s'"\\]+/gs)) {
    if (piece === `'` || piece === '"' || piece === '\\')
      throw new ConfigError('BAD_OPTION', `--command ${text}: ${piece} at the end of nothing`);
    if (piece.trim() === '') {
      if (word !== undefined) words.push(word);
      word = undefined;
    } else word = (word ?? '') + unquoted(piece);
  }
  if (word !== undefined) words.push(word);
  const [program, ...args] = words;
  if (program === undefined || program === '')
    throw new ConfigError('BAD_OPTION', '--command: a program is needed');
  return { program, args };
}

/** The same with `--socket-path={socket}` and `--shared-dir={dir}` at its end, if `{socket}` is nowhere in it. */
export function withPlaceholders({ program, args }: BackendCommand): BackendCommand {
  if (args.some((argument) => argument.includes('{socket}'))) return { program, args };
  return { program, args: [...args, '--socket-path={socket}', '--shared-dir={dir}'] };
}

/** Older names of `stress --device`. */
const OLDER_NAMES: ReadonlyMap<string, DeviceName> = new Map([
  ['block', 'blk'],
  ['none', 'any'],
]);

/** The value of `--device`. @throws {InvalidArgumentError} */
export function parseDevice(text: string): DeviceName {
  const device = OLDER_NAMES.get(text) ?? DEVICE_NAMES.find((name) => name === text);
  if (device === undefined) throw new InvalidArgumentError(`Allowed choices are ${DEVICE_NAMES.join(', ')}.`);
  return device;
}

/** @throws {ConfigError} BAD_OPTION unless exactly one of the two is given */
export function assertOneBackend({ command, socket }: BackendChoice): void {
  if ((command === undefined) === (socket === undefined))
    throw new ConfigError('BAD_OPTION', "either --command 'CMD {socket} {dir}' or --socket PATH");
}

function unquoted(piece: string): string {
  if (piece.startsWith(`'`)) return piece.slice(1, -1);
  if (piece.startsWith('"')) return piece.slice(1, -1).replaceAll(/\\(["\\])/g, '$1');
  return piece.startsWith('\\') ? piece.slice(1) : piece;
}
