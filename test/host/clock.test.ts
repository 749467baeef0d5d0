import { expect, test } from 'vitest';
import { monotonicMs } from '../../src/host/clock.ts';

/** The same clock, as Node reads it. */
const nodeMs = (): number => Number(process.hrtime.bigint()) / 1e6;

test('is the monotonic clock', () => {
  for (let i = 0; i < 1000; i += 1) {
    const before = nodeMs();
    const now = monotonicMs();
    expect(now).toBeGreaterThanOrEqual(before - 1e-3); // rounding
    expect(now).toBeLessThanOrEqual(nodeMs() + 1e-3);
  }
});
