/**
 * The daemon's log: JSON lines on stderr, or readable text on a terminal.
 *
 * Writes are synchronous: the device thread blocks in epoll_wait and never reaches its event loop, where an
 * asynchronous stream would flush, and a line about a crash must be out before it.
 */
import { createRequire } from 'node:module';
import { isatty } from 'node:tty';
import { destination, pino, type Logger } from 'pino';
import type PinoPretty from 'pino-pretty';
import { LOG_SERIALIZERS } from '../log.ts';
import type { LogLevel } from './options.ts';

const STDERR = 2;
/** Loading it takes as long as all else of this program: only for a terminal. */
const require = createRequire(import.meta.url);
const loadPretty = (): typeof PinoPretty => require('pino-pretty') as typeof PinoPretty;

/** A logger of this thread. Only the daemon and the command line make one; libraries are given theirs. */
export function createLogger(level: LogLevel): Logger {
  const stream = isatty(STDERR)
    ? loadPretty()({ destination: STDERR, sync: true, ignore: 'pid,hostname' })
    : destination({ dest: STDERR, sync: true });
  return pino({ level, serializers: LOG_SERIALIZERS, base: null }, stream);
}
