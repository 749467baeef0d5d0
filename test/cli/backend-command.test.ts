import { expect, test } from 'vitest';
import {
  assertOneBackend,
  parseBackendCommand,
  parseDevice,
  withPlaceholders,
} from '../../src/cli/backend-command.ts';

test.each([
  ['virtiofsd --socket-path={socket}', ['virtiofsd', '--socket-path={socket}']],
  [`  a  'b c'\t"d \\" 'e'" f\\ g  `, ['a', 'b c', `d " 'e'`, 'f g']],
  [`x='{dir}/a b'"c"`, ['x={dir}/a bc']],
  [`a ''`, ['a', '']],
  ['a $HOME | b', ['a', '$HOME', '|', 'b']],
])('%s is cut into its words, and nothing is expanded', (text, [program, ...args]) => {
  expect(parseBackendCommand(text)).toEqual({ program, args });
});

test.each([`a 'b`, `a "b`, 'a \\', '', '  ', `'' a`])('%j is refused', (text) => {
  expect(() => parseBackendCommand(text)).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
});

test.each([
  [
    ['-f', '--socket={socket}'],
    ['-f', '--socket={socket}'],
  ],
  [['-f'], ['-f', '--socket-path={socket}', '--shared-dir={dir}']],
])('arguments %j come to %j', (args, completed) => {
  expect(withPlaceholders({ program: 'a', args })).toEqual({ program: 'a', args: completed });
});

test('devices have the same names everywhere, and stress knows its older ones', () => {
  expect(['fs', 'blk', 'any', 'block', 'none'].map(parseDevice)).toEqual(['fs', 'blk', 'any', 'blk', 'any']);
  expect(() => parseDevice('disk')).toThrow('Allowed choices are fs, blk, any.');
});

test('a back-end is named once', () => {
  expect(() => assertOneBackend({})).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
  expect(() => assertOneBackend({ command: 'a', socket: 'b' })).toThrow();
  expect(() => assertOneBackend({ socket: 'b' })).not.toThrow();
});
