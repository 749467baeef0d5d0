import { EventEmitter } from 'node:events';
import { expect, test } from 'vitest';
import { LiveArea, type Terminal } from '../../src/cli/live-area.ts';

/** What is written to a terminal of this size. */
class PaperTerminal extends EventEmitter implements Terminal {
  readonly isTTY = true;
  columns = 30;
  rows = 6;
  written = '';

  write(text: string): boolean {
    this.written += text;
    return true;
  }

  /** What was written since this was last asked, ESC as ^. */
  take(): string {
    const { written } = this;
    this.written = '';
    return written.replaceAll('\u001B', '^');
  }
}

const ESC_UP = '^[2A';

test('lines are drawn again where they were', () => {
  const out = new PaperTerminal();
  using area = new LiveArea(out, {});
  area.draw([['one'], [{ text: 'two', colour: 'green' }, '!']]);
  expect(out.take()).toBe('^[?25l\rone^[K\n^[32mtwo^[0m!^[K\n^[J');
  area.draw([['three']]);
  expect(out.take()).toBe(`${ESC_UP}\rthree^[K\n^[J`);
});

test('the cursor is given back, once', () => {
  const out = new PaperTerminal();
  const area = new LiveArea(out, {});
  area.draw([['one']]);
  out.take();
  area[Symbol.dispose]();
  area[Symbol.dispose]();
  expect(out.take()).toBe('^[?25h');
  expect(out.listenerCount('resize')).toBe(0);
});

test('what does not fit is cut, and says so; lines beyond the height are left out', () => {
  const out = new PaperTerminal();
  using area = new LiveArea(out, { NO_COLOR: '1' });
  area.draw([
    [{ text: 'a'.repeat(20), colour: 'red' }, 'b'.repeat(10)],
    ['a'.repeat(20), 'b'.repeat(11), 'c'],
    ...Array.from({ length: 9 }, (_, i) => [`line ${i}`]),
  ]);
  const lines = out.take().split('\n');
  expect(lines[0]).toBe(`^[?25l\r${'a'.repeat(20)}${'b'.repeat(10)}^[K`);
  expect(lines[1]).toBe(`${'a'.repeat(20)}${'b'.repeat(9)}…^[K`);
  expect(lines.length).toBe(6);
  expect(lines.at(-2)).toBe('line 2^[K');
});

test('after a change of size everything is drawn afresh', () => {
  const out = new PaperTerminal();
  using area = new LiveArea(out, {});
  area.draw([['one']]);
  out.take();
  out.columns = 20;
  out.emit('resize');
  area.draw([['one']]);
  expect(out.take()).toBe('^[H^[2J\rone^[K\n^[J');
});
