import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { runPlan } from '../../src/cli/plan.ts';

const PLAN = {
  memory: { size: '512M', maxmem: '8G' },
  devices: [{ driver: 'vhost-user-fs', id: 'fs0', maxMemSlots: 4 }],
};

let directory = '';
beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'plan-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

const planned = (plan: unknown): string => {
  const file = join(directory, 'plan.json');
  writeFileSync(file, JSON.stringify(plan));
  return file;
};

describe('vhost-user plan', () => {
  test.each([
    ['text', 'fs0'],
    ['json', '"limit": 4'],
    ['svg', '</svg>'],
  ] as const)('writes %s', async (format, content) => {
    const output = join(directory, 'out');
    expect(await runPlan({ file: planned(PLAN), format, output })).toBe(0);
    expect(readFileSync(output, 'utf8')).toContain(content);
  });

  test('ends with 1 if something is refused', async () => {
    const devices = [{ driver: 'vhost-user-fs', maxMemSlots: 0 }];
    const output = join(directory, 'out');
    expect(await runPlan({ file: planned({ ...PLAN, devices }), format: 'text', output })).toBe(1);
  });

  test('refuses files that are not there, or no plan, or describe a machine that cannot be', async () => {
    const run = (file: string) => runPlan({ file, format: 'text', output: join(directory, 'out') });
    await expect(run(join(directory, 'none'))).rejects.toMatchObject({ code: 'SYSTEM' });
    await expect(run(planned({}))).rejects.toMatchObject({ code: 'BAD_OPTION' });
    const memory = { ...PLAN.memory, slots: 257 };
    await expect(run(planned({ ...PLAN, memory }))).rejects.toMatchObject({ code: 'BAD_OPTION' });
  });
});
