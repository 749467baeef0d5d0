/** `vhost-user replay`: plays the front-end's side of a recording against a back-end, and tells where it answers differently. */
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import { type ReplayFinding, replayScript } from '../vhost/replay-script.ts';
import { Replayer } from '../vhost/replayer.ts';
import { readRecording } from './decode.ts';
import { type TextOutput, standardOutput } from './text-output.ts';

export interface ReplayOptions {
  readonly file: string;
  /** Where the back-end listens. */
  readonly socket: string;
  /** Which connection of the recording; the first unless told otherwise. */
  readonly conn?: number;
  /** Send feature bits as recorded, also those this back-end does not offer, and requests that need them. */
  readonly exact?: boolean;
  /** How long a reply may take. */
  readonly timeoutMs?: number;
  readonly json?: boolean;
  /** Standard output unless told otherwise. */
  readonly output?: TextOutput;
}

const TIMEOUT_MS = 5000;

/**
 * @returns the exit status: 0 if all replies were of the recorded kind, 1 if not
 * @throws {ConfigError} if the recording cannot be read, or nobody listens
 */
export async function runReplay(options: ReplayOptions): Promise<number> {
  const output = options.output ?? standardOutput();
  const { records } = await readRecording(options.file);
  const script = replayScript(records, options.conn);
  if (script === undefined)
    throw new ConfigError(
      'BAD_OPTION',
      `${options.file} has no such connection, or no message of a front-end in it`,
    );
  const fd = connectUnix(options.socket);
  if (fd < 0) throw new ConfigError('SYSTEM', `--socket ${options.socket}: ${errnoName(-fd)}`);
  using replayer = new Replayer(new OwnedFd(fd), {
    isExact: options.exact ?? false,
    timeoutMs: options.timeoutMs ?? TIMEOUT_MS,
  });
  const report = replayer.play(script);
  if (options.json) output.write(`${JSON.stringify(report)}\n`);
  else {
    for (const finding of report.findings) output.write(`${findingText(finding)}\n`);
    const { sent, replies, skipped } = report;
    output.write(
      `${sent} messages sent, ${skipped} left out, ${replies} replies; differences: ${report.differences}\n`,
    );
  }
  return report.differences === 0 ? 0 : 1;
}

const findingText = ({ n, name, isDifference, text }: ReplayFinding): string =>
  `${isDifference ? '!' : ' '} #${n} ${name}: ${text}`;
