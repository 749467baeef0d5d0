/** All cases, in the order they are run. */
import type { ConformanceCase } from '../case.ts';
import { CHANNEL_CASES, RECONNECT_CASES } from './connection.ts';
import { DATA_PLANE_CASES } from './data-plane.ts';
import { DESCRIPTOR_CASES } from './descriptors.ts';
import { CONFIG_CASES, RESET_CASES, STATUS_CASES } from './device-wide.ts';
import { DIRTY_LOG_CASES } from './dirty-log.ts';
import { FRAMING_CASES } from './framing.ts';
import { MEMORY_ADD_CASES } from './memory-add.ts';
import { MEMORY_LIMIT_CASES } from './memory-limit.ts';
import { MEMORY_TABLE_CASES } from './memory-table.ts';
import { MEMORY_USE_CASES } from './memory-use.ts';
import { NEGOTIATION_CASES } from './negotiation.ts';
import { REPLY_ACK_CASES } from './reply-ack.ts';
import { INFLIGHT_CASES, SHMEM_CASES, STATE_CASES } from './state.ts';

export const CASES: readonly ConformanceCase[] = [
  ...NEGOTIATION_CASES,
  ...REPLY_ACK_CASES,
  ...FRAMING_CASES,
  ...DESCRIPTOR_CASES,
  ...MEMORY_TABLE_CASES,
  ...MEMORY_ADD_CASES,
  ...MEMORY_LIMIT_CASES,
  ...MEMORY_USE_CASES,
  ...DIRTY_LOG_CASES,
  ...CONFIG_CASES,
  ...RESET_CASES,
  ...STATUS_CASES,
  ...CHANNEL_CASES,
  ...RECONNECT_CASES,
  ...STATE_CASES,
  ...INFLIGHT_CASES,
  ...SHMEM_CASES,
  ...DATA_PLANE_CASES,
];
