/**
 * The daemon's log: JSON lines on stderr, or readable text on a terminal.
 *
 * Writes are synchronous: the device thread blocks in epoll_wait and never reaches its event loop, where an
 * asynchronous stream would flush, and a line about a crash must be out before it.
 */
import { isatty } from 'node:tty';
import { destination, pino, type Logger } from 'pino';
import pretty from 'pino-pretty';
import { LOG_SERIALIZERS } from '../log.ts';
import type { LogLevel } from './options.ts';

const STDERR = 2;

/** A logger of this thread. Only the daemon and the command line make one; libraries are given theirs. */
export function createLogger(level: LogLevel): Logger {
  const stream = isatty(STDERR)
    ? pretty({ destination: STDERR, sync: true, ignore: 'pid,hostname' })
    : destination({ dest: STDERR, sync: true });
  return pino({ level, serializers: LOG_SERIALIZERS, base: null }, stream);
}
