import { pino } from 'pino';
import { expect, test } from 'vitest';
import { LOG_SERIALIZERS, SILENT_LOG, type Log } from '../src/log.ts';

test('a pino logger is a Log, and prints addresses beyond 2^53 in full', () => {
  const lines: string[] = [];
  const stream = { write: (line: string) => void lines.push(line) };
  const log: Log = pino(
    { level: 'debug', base: null, timestamp: false, serializers: LOG_SERIALIZERS },
    stream,
  );
  log.debug({ gpa: 2n ** 64n - 1n, size: 4096, vring: 1 }, 'vhost_region_add_section');
  expect(lines).toEqual([
    '{"level":20,"gpa":"0xffffffffffffffff","size":"0x1000","vring":1,"msg":"vhost_region_add_section"}\n',
  ]);
});

test('the silent log takes everything and does nothing', () => {
  expect(SILENT_LOG.fatal({}, 'event')).toBeUndefined();
});
