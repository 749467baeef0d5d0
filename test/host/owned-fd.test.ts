import { closeSync, fstatSync, openSync } from 'node:fs';
import { expect, test } from 'vitest';
import { Cleanup, OwnedFd } from '../../src/host/owned-fd.ts';

const open = (): number => openSync('/dev/null', 'r');
const isOpen = (fd: number): boolean => {
  try {
    fstatSync(fd);
    return true;
  } catch {
    return false;
  }
};

test('closing twice closes once: a descriptor that got the same number stays open', () => {
  const number = open();
  const owned = new OwnedFd(number);
  owned.close();
  const other = open();
  expect(other).toBe(number);
  owned.close();
  owned[Symbol.dispose]();
  expect(isOpen(other)).toBe(true);
  expect([owned.fd, owned.isClosed]).toEqual([-1, true]);
  closeSync(other);
});

test('a released descriptor is the caller’s', () => {
  const owned = new OwnedFd(open());
  const fd = owned.release();
  owned.close();
  expect(isOpen(fd)).toBe(true);
  expect(owned.release()).toBe(-1);
  closeSync(fd);
});

test('leaving the block closes', () => {
  let number: number;
  {
    using owned = new OwnedFd(open());
    number = owned.fd;
  }
  expect(isOpen(number)).toBe(false);
});

test.each([-1, 1.5, Number.NaN])('%d is no descriptor', (value) => {
  expect(() => new OwnedFd(value)).toThrow(RangeError);
});

test('a clean-up disposes newest first', () => {
  const order: string[] = [];
  {
    using undo = new Cleanup();
    undo.defer(() => order.push('oldest'));
    undo.use({ [Symbol.dispose]: () => order.push('newest') });
  }
  expect(order).toEqual(['newest', 'oldest']);
});

test('a kept clean-up disposes nothing', () => {
  const order: string[] = [];
  {
    using undo = new Cleanup();
    undo.defer(() => order.push('never'));
    undo.keep();
  }
  expect(order).toEqual([]);
});
