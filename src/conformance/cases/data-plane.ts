/** All cases about rings, descriptors and the requests in them, in the order they are run. */
import type { ConformanceCase } from '../case.ts';
import { DEVICE_REQUEST_CASES } from './device-requests.ts';
import { HOSTILE_CHAIN_CASES } from './hostile-chains.ts';
import { HOSTILE_INDIRECT_CASES } from './hostile-indirect.ts';
import { HOSTILE_REQUEST_CASES } from './hostile-requests.ts';
import { HOSTILE_RING_CASES } from './hostile-rings.ts';
import { QUEUE_NOTIFICATION_CASES } from './queue-notifications.ts';
import { QUEUE_SHAPE_CASES } from './queue-shapes.ts';
import { QUEUE_CASES } from './queues.ts';
import { RACE_CASES } from './races.ts';
import { RING_CHANGE_CASES } from './ring-changes.ts';
import { RING_INDEX_CASES } from './ring-indices.ts';
import { RING_REFUSAL_CASES } from './ring-refusals.ts';
import { RING_STATE_CASES } from './ring-states.ts';
import { RING_SURROUNDING_CASES } from './ring-surroundings.ts';

export const DATA_PLANE_CASES: readonly ConformanceCase[] = [
  ...RING_STATE_CASES,
  ...RING_INDEX_CASES,
  ...RING_CHANGE_CASES,
  ...RING_REFUSAL_CASES,
  ...RING_SURROUNDING_CASES,
  ...QUEUE_SHAPE_CASES,
  ...QUEUE_NOTIFICATION_CASES,
  ...HOSTILE_CHAIN_CASES,
  ...HOSTILE_INDIRECT_CASES,
  ...HOSTILE_REQUEST_CASES,
  ...HOSTILE_RING_CASES,
  ...RACE_CASES,
  ...QUEUE_CASES,
  ...DEVICE_REQUEST_CASES,
];
