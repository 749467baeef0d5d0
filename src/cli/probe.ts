/** `vhost-user probe`: what a back-end offers, and whether it acknowledges what a front-end relies on. */
import { setTimeout as delay } from 'node:timers/promises';
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import { type NamedBit, type ProbeReport, reportOf } from '../vhost/probe-report.ts';
import { probe } from '../vhost/probe.ts';
import { assertOneBackend, type BackendChoice, parseBackendCommand } from './backend-command.ts';
import { SpawnedBackend } from './spawned-backend.ts';
import { standardOutput, type TextOutput } from './text-output.ts';

export interface ProbeOptions extends BackendChoice {
  readonly json?: boolean;
  /** How long each answer may take. */
  readonly timeoutMs?: number;
  /** Standard output unless told otherwise. */
  readonly output?: TextOutput;
}

const TIMEOUT_MS = 2000;
/** Milliseconds in which a back-end that hung up says why. */
const DYING_MS = 100;

/**
 * @returns the exit status: 0 if every question was answered, 1 if not
 * @throws {ConfigError} if the back-end cannot be started, or nobody listens
 */
export async function runProbe(options: ProbeOptions): Promise<number> {
  const { output = standardOutput(), timeoutMs = TIMEOUT_MS } = options;
  assertOneBackend(options);
  const report = await probed(options, timeoutMs);
  output.write(options.json ? `${JSON.stringify(report)}\n` : textOf(report));
  return report.failure === undefined ? 0 : 1;
}

async function probed({ command, socket = '' }: BackendChoice, timeoutMs: number): Promise<ProbeReport> {
  if (command === undefined) {
    const fd = connectUnix(socket);
    if (fd < 0) throw new ConfigError('SYSTEM', `--socket ${socket}: ${errnoName(-fd)}`);
    return reportOf(probe(new OwnedFd(fd), { timeoutMs }));
  }
  const backend = await startBackend(command);
  try {
    const report = reportOf(probe(backend.connect(), { timeoutMs }));
    if (report.failure === undefined) return report;
    await delay(DYING_MS);
    const told = [report.failure.text, backend.lastWords()].filter(Boolean).join('; the back-end ');
    return { ...report, failure: { ...report.failure, text: told } };
  } finally {
    await backend.stop();
  }
}

async function startBackend(command: string): Promise<SpawnedBackend> {
  try {
    return await SpawnedBackend.start(parseBackendCommand(command));
  } catch (cause) {
    if (cause instanceof ConfigError || !(cause instanceof Error)) throw cause;
    throw new ConfigError('SYSTEM', `--command: ${cause.message}`, { cause });
  }
}

function textOf(report: ProbeReport): string {
  const { device, features, protocolFeatures, queues, memslots, status, acknowledges, config } = report;
  const { owner, addRegion, removeRegion } = acknowledges;
  const lines = [
    row('device', `${device.kind} (a guess: ${device.because})`),
    row('features', bits(features)),
    row('protocol features', bits(protocolFeatures)),
    row('queues', queues === undefined ? 'not told' : `up to ${queues}`),
    row(
      'memory slots',
      report.failure !== undefined && memslots.announced === undefined
        ? 'not told'
        : `${memslots.announced ?? 'not told'}; QEMU uses ${memslots.qemu}. Whether more are refused: vhost-user stress`,
    ),
    row('SET_OWNER', owner),
    row('ADD_MEM_REG', addRegion),
    row('REM_MEM_REG', removeRegion),
    ...(status === undefined ? [] : [row('status', String(status))]),
    row(
      'configuration',
      config === undefined
        ? 'not told'
        : `${config.size} bytes${config.meaning === undefined ? '' : `: ${config.meaning}`}`,
    ),
    ...report.remarks.map((remark) => `! ${remark}`),
    ...(report.failure === undefined ? [] : [`FAILED: ${report.failure.text}`]),
  ];
  return `${lines.join('\n')}\n`;
}

const row = (title: string, value: string): string => `${title.padEnd(18)} ${value}`;

const bits = (list: readonly NamedBit[] | undefined): string =>
  list === undefined
    ? 'not told'
    : list.map(({ bit, name }) => `${bit} ${name ?? 'UNKNOWN'}`).join(', ') || 'none';
