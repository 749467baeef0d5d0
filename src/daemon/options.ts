/** What a served share is made of. Plain data: it is handed to the device thread as a structured clone. */
import type { PassthroughOptions } from '../passthrough/options.ts';

export type LogLevel = 'trace' | 'debug' | 'info' | 'warn' | 'error' | 'silent';

/** Where the front-end connects: a path this process binds, or a listening socket it inherited. */
export type Listen =
  | { readonly kind: 'path'; readonly path: string; readonly group: string | undefined }
  | { readonly kind: 'fd'; readonly fd: number };

export interface DaemonOptions {
  readonly listen: Listen;
  readonly share: PassthroughOptions;
  /** The mount tag in the device's configuration space; without one, VHOST_USER_PROTOCOL_F_CONFIG is not offered. */
  readonly tag: string | undefined;
  /** Memory regions a front-end may add; one more is refused. */
  readonly maxMemSlots: number;
  /** Request queues beside the hiprio queue. */
  readonly requestQueues: number;
  /** Threads that serve the request queues, at most as many; 0: the device thread serves all. */
  readonly queueThreads: number;
  /** Microseconds to look at rings, at most, before waiting for a kick; 0 waits at once. */
  readonly pollMicros: number;
  /** Limit of open files to ask for; 0 leaves the limit alone, undefined takes min(1,000,000, fs.nr_open). */
  readonly openFilesLimit: number | undefined;
  /** Ends the process when the first front-end goes. */
  readonly exitOnDisconnect: boolean;
  readonly logLevel: LogLevel;
}
