/**
 * The command line of `vhost-user-fs`, flag-compatible with virtiofsd 1.13.
 *
 * A flag of virtiofsd that we do not serve yet is refused by name, never ignored: an operator who asked for a
 * sandbox must not run without one. Values that describe what we do anyway are accepted.
 */
import { availableParallelism } from 'node:os';
import { Command, InvalidArgumentError, Option } from 'commander';
import type { DaemonOptions, Listen, LogLevel } from '../daemon/options.ts';
import { ConfigError } from '../errors.ts';
import { VERSION } from './version.ts';

/** What the arguments ask for: text on stdout, or a daemon. */
export type FsCommand =
  | { readonly kind: 'print'; readonly text: string }
  | { readonly kind: 'serve'; readonly options: DaemonOptions };

const DEFAULT_MEM_SLOTS = 509;
const MAX_MEM_SLOTS = 32768;
/** GET_QUEUE_NUM counts the hiprio queue too; QEMU allows 1024 queues a device. */
const MAX_REQUEST_QUEUES = 1023;
/** See DECISIONS.md. */
const DEFAULT_POLL_MICROS = 50;
const MAX_POLL_MICROS = 1000;
/** The device thread and these: what the tables of a share have room for. */
const MAX_QUEUE_THREADS = 63;
const TAG_BYTES = 36;

const CAPABILITIES = { type: 'fs', features: ['separate-options'] };

const LOG_LEVELS: Readonly<Record<string, LogLevel>> = {
  error: 'error',
  warn: 'warn',
  info: 'info',
  debug: 'debug',
  trace: 'trace',
  off: 'silent',
};

/** Flags of virtiofsd that are refused, each with the values that describe what we do anyway. */
const LATER: readonly { readonly flags: string; readonly same: readonly string[] }[] = [
  { flags: '--sandbox <mode>', same: ['none'] },
  { flags: '--seccomp <action>', same: ['none'] },
  { flags: '--thread-pool-size <threads>', same: ['0'] },
  { flags: '--allow-mmap', same: [] },
  { flags: '--readonly', same: [] },
  { flags: '--xattrmap <rules>', same: [] },
  { flags: '--modcaps <list>', same: [] },
  { flags: '--syslog', same: [] },
  { flags: '--security-label', same: [] },
  { flags: '--preserve-noatime', same: [] },
  { flags: '--uid-map <map>', same: [] },
  { flags: '--gid-map <map>', same: [] },
  { flags: '--translate-uid <map>', same: [] },
  { flags: '--translate-gid <map>', same: [] },
  { flags: '--migration-mode <mode>', same: [] },
  { flags: '--migration-on-error <action>', same: [] },
  { flags: '--migration-verify-handles', same: [] },
  { flags: '--migration-confirm-paths', same: [] },
  { flags: '-o <options>', same: [] },
];

interface RawOptions {
  readonly socketPath?: string;
  readonly socket?: string;
  readonly fd?: number;
  readonly sharedDir?: string;
  readonly tag?: string;
  readonly socketGroup?: string;
  readonly cache: 'never' | 'auto' | 'always' | 'metadata';
  readonly writeback?: boolean;
  readonly allowDirectIo?: boolean;
  readonly readdirplus: boolean;
  readonly xattr?: boolean;
  readonly posixAcl?: boolean;
  readonly killprivV2?: boolean;
  readonly announceSubmounts?: boolean;
  readonly inodeFileHandles: 'never' | 'prefer' | 'fallback' | 'mandatory';
  readonly locks: 'host' | 'guest';
  readonly rlimitNofile?: number;
  readonly maxMemSlots: number;
  readonly numRequestQueues: number;
  readonly queueThreads: number | 'auto';
  readonly pollUs: number;
  readonly exitOnDisconnect?: boolean;
  readonly logLevel: string;
  readonly d?: boolean;
  readonly printCapabilities?: boolean;
}

/**
 * Reads the command line.
 *
 * @param args without the program's own name
 * @throws {ConfigError} naming the option, what was given and what is allowed
 * @throws {CommanderError} for --help, --version and unknown options, after printing
 */
export function parseFsArguments(args: readonly string[]): FsCommand {
  const command = declare();
  command.parse(args, { from: 'user' });
  const raw = command.opts<RawOptions>();
  if (raw.printCapabilities) return { kind: 'print', text: JSON.stringify(CAPABILITIES, null, 2) };
  refuseLater(command);
  return { kind: 'serve', options: toOptions(raw) };
}

function declare(): Command {
  const command = new Command('vhost-user-fs')
    .description(
      'Serves a host directory to a virtual machine as a virtio-fs device, over a vhost-user socket.',
    )
    .usage('--shared-dir <dir> --socket-path <path> [options]')
    .version(`vhost-user-fs ${VERSION}`, '-V, --version')
    .exitOverride()
    .option('--shared-dir <dir>', 'the directory to share')
    .option('--socket-path <path>', 'the vhost-user socket to listen on')
    .addOption(new Option('--socket <path>', 'the same (deprecated)').hideHelp())
    .option(
      '--fd <fd>',
      'a listening socket inherited as file descriptor; turns --exit-on-disconnect on',
      integer(0, 2 ** 31 - 1),
    )
    .option('--socket-group <group>', 'group that may connect to the socket')
    .option('--tag <tag>', 'mount tag in the device configuration (offers VHOST_USER_PROTOCOL_F_CONFIG)')
    .addOption(
      new Option('--cache <policy>', 'what the guest may cache')
        .choices(['never', 'auto', 'always', 'metadata'])
        .default('auto'),
    )
    .option('--writeback', 'let the guest buffer writes')
    .option('--allow-direct-io', 'honour O_DIRECT of guest programs')
    .option('--no-readdirplus', 'list directories without attributes')
    .option('--xattr', 'extended attributes')
    .option('--posix-acl', 'POSIX access control lists (implies --xattr)')
    .option('--killpriv-v2', 'clear setuid and setgid bits on the host (default)')
    .option('--no-killpriv-v2', 'leave that to the guest')
    .option('--announce-submounts', 'show mount points under the directory as such (default)')
    .option('--no-announce-submounts', 'show one file system')
    .addOption(
      new Option('--inode-file-handles <when>', 'hold inodes by file handle instead of an O_PATH descriptor')
        .choices(['never', 'prefer', 'fallback', 'mandatory'])
        .default('prefer'),
    )
    .addOption(
      new Option('--locks <where>', 'where flock and fcntl locks hold: on the host, or only in the guest')
        .choices(['host', 'guest'])
        .default('host'),
    )
    .option(
      '--rlimit-nofile <n>',
      'open files limit; 0 leaves it (default: min(1000000, fs.nr_open))',
      integer(0, 2 ** 31 - 1),
    )
    .option(
      '--max-mem-slots <n>',
      `memory regions a front-end may add, 1 to ${MAX_MEM_SLOTS}`,
      integer(1, MAX_MEM_SLOTS),
      DEFAULT_MEM_SLOTS,
    )
    .option(
      '--num-request-queues <n>',
      'request queues beside the hiprio queue',
      integer(1, MAX_REQUEST_QUEUES),
      1,
    )
    .option(
      '--queue-threads <n>',
      `threads that serve the request queues, up to ${MAX_QUEUE_THREADS}; 0 serves all in one; auto: one per queue and processor, 0 for one queue`,
      threadCount,
      'auto',
    )
    .option(
      '--poll-us <n>',
      `microseconds to look for a busy guest's next request before sleeping, up to ${MAX_POLL_MICROS}; 0 sleeps at once`,
      integer(0, MAX_POLL_MICROS),
      DEFAULT_POLL_MICROS,
    )
    .option('--exit-on-disconnect', 'end when the front-end disconnects, as virtiofsd does')
    .option('--no-exit-on-disconnect', 'serve the next front-end (default with --socket-path)')
    .addOption(
      new Option('--log-level <level>', 'what to log to stderr: lines of JSON, or text on a terminal')
        .choices(Object.keys(LOG_LEVELS))
        .default('info'),
    )
    .option('--print-capabilities', 'print what this back-end offers (vhost-user.json) and exit')
    .addOption(new Option('-d', 'log at debug level (deprecated)').hideHelp())
    .addOption(new Option('-f', 'no effect (deprecated)').hideHelp());
  for (const { flags } of LATER) command.addOption(new Option(flags, 'not supported yet').hideHelp());
  return command;
}

function refuseLater(command: Command): void {
  for (const { flags, same } of LATER) {
    const name = flags.split(' ')[0]!;
    const option = command.options.find((o) => o.long === name || o.short === name)!;
    const value = command.getOptionValue(option.attributeName()) as string | true | undefined;
    if (value === undefined || (value !== true && same.includes(value))) continue;
    const shown = value === true ? name : `${name}=${value}`;
    const allowed = same.length > 0 ? `; allowed: ${same.map((s) => `${name}=${s}`).join(', ')}` : '';
    throw new ConfigError('NOT_SUPPORTED', `${shown} is not supported yet${allowed}`);
  }
}

function toOptions(raw: RawOptions): DaemonOptions {
  const sharedDir = raw.sharedDir;
  if (sharedDir === undefined) throw new ConfigError('BAD_OPTION', '--shared-dir is required');
  if (raw.tag !== undefined) checkTag(raw.tag);
  return {
    listen: toListen(raw),
    tag: raw.tag,
    maxMemSlots: raw.maxMemSlots,
    requestQueues: raw.numRequestQueues,
    queueThreads: toThreads(raw.queueThreads, raw.numRequestQueues),
    pollMicros: raw.pollUs,
    openFilesLimit: raw.rlimitNofile,
    exitOnDisconnect: raw.exitOnDisconnect ?? raw.fd !== undefined,
    logLevel: raw.d ? 'debug' : LOG_LEVELS[raw.logLevel]!,
    share: {
      sharedDir,
      cache: raw.cache,
      writeback: raw.writeback ?? false,
      allowDirectIo: raw.allowDirectIo ?? false,
      readdirplus: raw.readdirplus,
      xattr: (raw.xattr ?? false) || (raw.posixAcl ?? false),
      posixAcl: raw.posixAcl ?? false,
      killprivV2: raw.killprivV2 ?? true,
      announceSubmounts: raw.announceSubmounts ?? true,
      locks: raw.locks,
      inodeFileHandles: raw.inodeFileHandles === 'fallback' ? 'prefer' : raw.inodeFileHandles,
    },
  };
}

function toListen(raw: RawOptions): Listen {
  const path = raw.socketPath ?? raw.socket;
  if (path !== undefined && raw.fd !== undefined)
    throw new ConfigError('BAD_OPTION', '--socket-path and --fd were both given; allowed: one of them');
  if (raw.fd !== undefined) {
    if (raw.socketGroup !== undefined)
      throw new ConfigError(
        'BAD_OPTION',
        '--socket-group needs --socket-path: an inherited socket has its group already',
      );
    return { kind: 'fd', fd: raw.fd };
  }
  if (path === '')
    throw new ConfigError('BAD_OPTION', '--socket-path is empty; allowed: the path of a socket');
  if (path === undefined) throw new ConfigError('BAD_OPTION', 'one of --socket-path and --fd is required');
  return { kind: 'path', path, group: raw.socketGroup };
}

/** With one queue, a thread of its own would only add a hop between what it shares with the others. */
function toThreads(asked: number | 'auto', queues: number): number {
  if (asked === 'auto') return queues === 1 ? 0 : Math.min(queues, availableParallelism(), MAX_QUEUE_THREADS);
  if (asked > queues)
    throw new ConfigError(
      'BAD_OPTION',
      `--queue-threads ${asked}; allowed up to --num-request-queues, ${queues}`,
    );
  return asked;
}

function checkTag(tag: string): void {
  const size = Buffer.byteLength(tag);
  if (size < 1 || size > TAG_BYTES)
    throw new ConfigError('BAD_OPTION', `--tag takes ${size} bytes; allowed 1 to ${TAG_BYTES}`);
}

function threadCount(text: string): number | 'auto' {
  return text === 'auto' ? text : integer(0, MAX_QUEUE_THREADS)(text);
}

function integer(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d+$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`Allowed: a whole number from ${min} to ${max}.`);
    return value;
  };
}
