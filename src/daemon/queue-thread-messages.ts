/** What the device thread and a queue thread say to each other: plain data, one question at a time. */
import type { MessagePort } from 'node:worker_threads';
import type { ProtocolErrorCode } from '../errors.ts';
import type { PassthroughHandover } from '../passthrough/passthrough-fs.ts';
import type { RingCommand } from '../vhost/ring-command.ts';
import type { DaemonOptions } from './options.ts';

/** What a queue thread is started with. Addresses are of memory that lives as long as the process; descriptors are lent. */
export interface QueueThreadSetup {
  readonly options: DaemonOptions;
  /** What `PassthroughFs.handover` gave. */
  readonly share: PassthroughHandover;
  /** Number of the thread, from 1: the device thread is 0. */
  readonly thread: number;
  /** All threads, the device thread included. */
  readonly threads: number;
  /** Queues it serves. */
  readonly indexes: readonly number[];
  readonly gateAddress: number;
  readonly mountAddress: number;
  readonly regionsAddress: number;
  readonly pulsesAddress: number;
  /** Eventfds: signalled when there is a question, and when there is an answer. */
  readonly wakeFd: number;
  readonly answerFd: number;
  readonly port: MessagePort;
}

export type Question =
  | { readonly kind: 'ring'; readonly command: RingCommand }
  /** Wait until the kernel has finished with guest memory. */
  | { readonly kind: 'settle' }
  | { readonly kind: 'quit' };

/** A refusal is a `ProtocolError`, whose class does not survive the way. */
export type QuestionAnswer =
  | { readonly kind: 'done'; readonly value: number }
  | { readonly kind: 'refused'; readonly code: ProtocolErrorCode; readonly reason: string };
