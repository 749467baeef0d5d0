import { expect, test } from 'vitest';
import { Progress } from '../../src/cli/progress.ts';

function shown(isTTY: boolean, act: (progress: Progress) => void): string {
  let text = '';
  const write = (part: string): boolean => ((text += part), true);
  act(new Progress({ write, isTTY }));
  return text;
}

test('without a terminal each phase is one line', () => {
  const text = shown(false, (progress) => {
    for (let done = 1; done <= 3; done += 1) progress.step('adding', done, 3);
    progress.step('removing', 1, 1);
    progress.line('done');
  });
  expect(text).toBe('adding\nremoving\ndone\n');
});

test('on a terminal the bar ends full, on a line of its own', () => {
  const text = shown(true, (progress) => {
    for (let done = 1; done <= 300; done += 1) progress.step('adding', done, 300);
    progress.line('done');
  });
  const lines = text.split('\n').map((line) => line.split('\u001B[K').pop());
  expect(lines).toEqual([`${'█'.repeat(24)} 300/300 adding`, 'done', '']);
});
