import { readFileSync } from 'node:fs';
import { expect, test } from 'vitest';
import * as api from '../src/index.ts';

test('the package offers each part of the toolkit by name', () => {
  expect(Object.keys(api)).toEqual(
    expect.arrayContaining([
      'BackendSession',
      'EventLoop',
      'FsDevice',
      'FuseServer',
      'GuestMemory',
      'LoopbackMachine',
      'MemoryTopology',
      'PassthroughFs',
      'VhostUserFrontend',
      'VirtioFsClient',
      'VirtioMem',
    ]),
  );
});

test('every error code of the toolkit is explained where it is declared', () => {
  const source = readFileSync(new URL('../src/errors.ts', import.meta.url), 'utf8');
  const codes = [...source.matchAll(/^ {2}\| '[A-Z_]+'(.*)$/gm)];
  expect(codes.length).toBeGreaterThan(20);
  expect(codes.filter(([, rest]) => !rest?.includes('//')).map(([line]) => line)).toEqual([]);
});
