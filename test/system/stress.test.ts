/**
 * `vhost-user stress` as a command, against real back-ends: ours keeps every promise, others are told truly, and a
 * back-end that was broken on purpose is found out.
 *
 * `STRESS_OPERATIONS=100000` makes the storms longer.
 */
import { spawnSync } from 'node:child_process';
import { mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import { afterAll, describe, expect, test } from 'vitest';
import { type BackendCommand, SpawnedBackend } from '../../src/cli/spawned-backend.ts';
import type { StressReport } from '../../src/stress/report.ts';
import { REPOSITORY } from '../support/guest-kit.ts';
import { C_VIRTIOFSD, missingPeers, ourBackend, RUST_VIRTIOFSD, storageDaemon } from '../support/peers.ts';

const OPERATIONS = process.env['STRESS_OPERATIONS'] ?? '2000';
const PROGRAM = join(REPOSITORY, 'dist/src/cli/vhost-user.js');
const isMissing = missingPeers() !== undefined;
const scratch = mkdtempSync(join(tmpdir(), 'stress-'));
afterAll(() => rmSync(scratch, { recursive: true }));

const commandLine = ({ program, args }: BackendCommand): string =>
  [program, ...args].map((word) => `'${word}'`).join(' ');

function stress(command: BackendCommand, ...args: readonly string[]) {
  const report = join(scratch, 'report.json');
  const { status, stdout, stderr } = spawnSync(
    process.execPath,
    [
      PROGRAM,
      'stress',
      '--command',
      commandLine(command),
      '--report',
      report,
      '--sequences',
      scratch,
      ...args,
    ],
    { encoding: 'utf8' },
  );
  const told = stderr.trim();
  if (status !== 0 && status !== 1) throw new Error(`status ${status}: ${stdout}${told}`);
  return { status, stdout, report: JSON.parse(readFileSync(report, 'utf8')) as StressReport };
}

const outcomes = ({ phases }: StressReport) => phases.map(({ outcome }) => outcome);

describe('our own back-end', () => {
  test.each([509, 510])('keeps what it promises with %i slots', (slots) => {
    const { status, stdout, report } = stress(
      ourBackend(`--max-mem-slots=${slots}`),
      '--seed=1',
      `--operations=${OPERATIONS}`,
    );
    expect(report.violations).toEqual([]);
    expect(status).toBe(0);
    expect(outcomes(report)).toEqual(['passed', 'passed', 'passed']);
    expect(report.limits).toEqual({ advertised: slots, reached: slots, oneMore: 'refused' });
    expect(report.isProcessSeen).toBe(true);
    expect(stdout).toContain('no violation');
  });

  test('keeps it with four request queues, and buffers that reach from slot to slot', () => {
    const { report } = stress(
      ourBackend('--num-request-queues=4'),
      '--seed=2',
      '--request-queues=4',
      '--crossing',
      `--operations=${OPERATIONS}`,
    );
    expect(report.violations).toEqual([]);
  });
});

describe('a back-end that somebody else has started', () => {
  const run = (...args: readonly string[]) =>
    spawnSync(process.execPath, [PROGRAM, 'stress', '--sequences', scratch, ...args], { encoding: 'utf8' });

  test('keeps its files: the run has one of its own, and removes it', async () => {
    const backend = await SpawnedBackend.start(ourBackend());
    try {
      writeFileSync(join(backend.shared, 'stress.bin'), 'precious');
      const { status, stdout } = run('--socket', backend.socketPath, '--operations=300', '--slots=40');
      expect([status, stdout]).toEqual([0, expect.stringContaining('no violation')]);
      expect(readdirSync(backend.shared)).toEqual(['stress.bin']);
      expect(readFileSync(join(backend.shared, 'stress.bin'), 'utf8')).toBe('precious');
    } finally {
      await backend.stop();
    }
  });

  test('keeps its disk, unless it may be overwritten', () => {
    const { status, stderr } = run('--socket', '/nowhere', '--device', 'blk');
    expect(status).toBe(2);
    expect(stderr).toMatch(/--device blk --socket \/nowhere: the first \d+ bytes .* --overwrite allows it/);
    expect(run('--socket', '/nowhere', '--device', 'blk', '--overwrite').stderr).toContain('ENOENT');
  });
});

describe.skipIf(isMissing)('back-ends of others', () => {
  test('Rust virtiofsd does not enforce its limit, and does all else', () => {
    const { status, report } = stress(RUST_VIRTIOFSD, '--seed=1', '--operations=1000');
    expect(status).toBe(1);
    expect(report.limits).toEqual({ advertised: 509, reached: 509, oneMore: 'accepted' });
    expect(outcomes(report)).toEqual(['violated', 'passed', 'passed']);
    expect(report.violations.map(({ kind, sequence }) => [kind, sequence])).toEqual([
      ['limit', [{ op: 'fill' }, { op: 'beyond' }]],
    ]);
  });

  test('C virtiofsd ends at its 33rd region, and does all else', () => {
    const { status, stdout, report } = stress(C_VIRTIOFSD, '--seed=1', '--operations=1000');
    expect(status).toBe(1);
    expect(report.limits).toEqual({ advertised: 32, reached: 32, oneMore: 'died' });
    expect(outcomes(report)).toEqual(['violated', 'passed', 'passed']);
    expect(report.violations.map(({ kind, sequence }) => [kind, sequence])).toEqual([
      ['died', [{ op: 'fill' }, { op: 'beyond' }]],
    ]);
    expect(stdout).toContain('the backend has no free ram slots available');
  });

  test('the disk of qemu-storage-daemon hangs up at its 33rd region, and does all else', () => {
    const { report } = stress(
      storageDaemon('{dir}/disk.img'),
      '--device=blk',
      '--seed=1',
      '--operations=1000',
    );
    expect(report.limits).toEqual({ advertised: 32, reached: 32, oneMore: 'died' });
    expect(outcomes(report)).toEqual(['violated', 'passed', 'passed']);
  });
});

/** Our daemon with a memory table that is wrong: a module that is loaded first, in each of its threads. */
function brokenBackend(name: string, code: string): BackendCommand {
  const file = join(scratch, `${name}.mjs`);
  const table = pathToFileURL(join(REPOSITORY, 'dist/src/guest-memory/guest-memory.js')).href;
  writeFileSync(file, `import { GuestMemory } from '${table}';\nconst { prototype } = GuestMemory;\n${code}`);
  const { program, args } = ourBackend('--max-mem-slots=24');
  return { program, args: ['--import', file, ...args] };
}

describe('a back-end that is broken', () => {
  test('by taking one region too many is found out by two operations, which can be run again', () => {
    const broken = brokenBackend(
      'one-too-many',
      `const add = prototype.addRegion;
       prototype.addRegion = function (region, fd) {
         this.maxSlots += 1;
         try {
           add.call(this, region, fd);
         } finally {
           this.maxSlots -= 1;
         }
       };`,
    );
    const { status, stdout, report } = stress(broken, '--seed=3', '--operations=100', '--restarts=0');
    expect(status).toBe(1);
    const [found] = report.violations;
    expect(found).toMatchObject({ kind: 'limit', sequence: [{ op: 'fill' }, { op: 'beyond' }] });
    const [, command = ''] = /^ {2}again: vhost-user (.*)$/m.exec(stdout) ?? [];
    expect(command).toContain(`--replay ${found?.file}`);
    const told = spawnSync('sh', ['-c', `'${process.execPath}' '${PROGRAM}' ${command}`], {
      encoding: 'utf8',
    });
    expect([told.status, told.stdout]).toEqual([1, expect.stringContaining('! limit')]);
    const again = stress(broken, '--replay', found!.file!);
    expect(again.status).toBe(1);
    expect(again.report.violations.map(({ kind }) => kind)).toEqual(['limit']);
    expect(stress(ourBackend('--max-mem-slots=24'), '--replay', found!.file!).status).toBe(0);
  });

  test('by dropping a region along with another loses I/O', () => {
    const broken = brokenBackend(
      'drops',
      `const remove = prototype.removeRegion;
       let count = 0;
       prototype.removeRegion = function (region) {
         remove.call(this, region);
         count += 1;
         const end = region.guestPhysAddr + region.memorySize;
         const next = this.regions.find(({ guestPhysAddr }) => guestPhysAddr === end);
         if (count % 3 === 0 && next !== undefined) remove.call(this, next);
       };`,
    );
    const { status, report } = stress(
      broken,
      '--seed=3',
      '--operations=500',
      '--restarts=0',
      '--timeout=1000',
      '--shrink-time=3',
    );
    expect(status).toBe(1);
    const found = report.violations.find(({ phase }) => phase === 'storm');
    expect(['io', 'refused']).toContain(found?.kind);
    expect(found?.sequence.length).toBeLessThan(found!.operation);
  });

  test('by keeping a mapping of what was removed is found to leak', () => {
    const broken = brokenBackend(
      'leaks',
      `import { mapShared } from '${pathToFileURL(join(REPOSITORY, 'dist/src/host/mapping.js')).href}';
       const add = prototype.addRegion;
       let count = 0;
       prototype.addRegion = function (region, fd) {
         count += 1;
         if (count === 20) mapShared(fd.fd, Number(region.mmapOffset), Number(region.memorySize));
         add.call(this, region, fd);
       };`,
    );
    const { status, report } = stress(
      broken,
      '--seed=3',
      '--operations=100',
      '--restarts=0',
      '--timeout=500',
      '--shrink-time=1',
    );
    expect(status).toBe(1);
    expect(report.violations[0]?.kind).toBe('leak');
    expect(report.violations[0]?.text).toMatch(
      /after all memory was unplugged again: mappings of guest memory 2, before 1/,
    );
  });
});
