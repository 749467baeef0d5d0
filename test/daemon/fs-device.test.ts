import { expect, test } from 'vitest';
import { queuesOf } from '../../src/daemon/fs-device.ts';

test.each([
  [1, 1, [[0, 1]]],
  [3, 2, [[0, 1, 3], [2]]],
  [3, 3, [[0, 1], [2], [3]]],
])(
  '%d request queues are dealt out to %d threads, hiprio to the first',
  (requestQueues, queueThreads, expected) => {
    const threads = Array.from({ length: queueThreads }, (_, i) => 1 + i);
    expect(threads.map((thread) => queuesOf(thread, { requestQueues, queueThreads }))).toEqual(expected);
  },
);
