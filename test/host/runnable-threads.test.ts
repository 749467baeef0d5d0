import { readFileSync } from 'node:fs';
import { cpus } from 'node:os';
import { Worker } from 'node:worker_threads';
import { describe, expect, test } from 'vitest';
import { areProcessorsShort, isShort, runnableThreads } from '../../src/host/runnable-threads.ts';

const count = (text: string): number => runnableThreads(Buffer.from(text), text.length);

describe('threads that want to run', () => {
  test.each([
    ['0.20 0.18 0.12 1/80 11206\n', 1],
    ['64.00 63.01 9.99 128/4096 7\n', 128],
    ['0.20 0.18 0.12 ', 0],
    ['0.20', 0],
    ['', 0],
  ])('%j: %i', (text, expected) => {
    expect(count(text)).toBe(expected);
  });

  test('are found in what this kernel says', () => {
    expect(count(readFileSync('/proc/loadavg', 'latin1'))).toBeGreaterThan(0);
  });

  test.each([
    [1, 2, false],
    [2, 2, false],
    [3, 2, true],
    [5, 0, false],
  ])('%i on %i processors are too many: %j', (threads, processors, expected) => {
    expect(isShort(threads, processors)).toBe(expected);
  });

  test('are too many while each processor has two', async () => {
    const stop = new Int32Array(new SharedArrayBuffer(4));
    const spin =
      "const { workerData } = require('node:worker_threads'); while (Atomics.load(workerData, 0) === 0);";
    const spinners = Array.from(
      { length: 2 * cpus().length },
      () => new Worker(spin, { eval: true, workerData: stop }),
    );
    try {
      await expect.poll(areProcessorsShort).toBe(true);
    } finally {
      Atomics.store(stop, 0, 1);
      await Promise.all(spinners.map((spinner) => spinner.terminate()));
    }
  });
});
