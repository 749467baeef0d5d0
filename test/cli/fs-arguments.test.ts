import { availableParallelism } from 'node:os';
import { afterEach, beforeEach, describe, expect, test, vi } from 'vitest';
import { parseFsArguments } from '../../src/cli/fs-arguments.ts';
import type { DaemonOptions } from '../../src/daemon/options.ts';

const REQUIRED = ['--socket-path=/run/s', '--shared-dir=/srv'];

function serve(...args: string[]): DaemonOptions {
  const parsed = parseFsArguments([...REQUIRED, ...args]);
  if (parsed.kind !== 'serve') throw new Error(`printed ${parsed.text}`);
  return parsed.options;
}

describe('the command line of vhost-user-fs', () => {
  beforeEach(() => {
    vi.spyOn(process.stderr, 'write').mockReturnValue(true);
    vi.spyOn(process.stdout, 'write').mockReturnValue(true);
  });
  afterEach(() => {
    vi.restoreAllMocks();
  });

  test('the two required flags give virtiofsd-like defaults', () => {
    expect(serve()).toEqual({
      listen: { kind: 'path', path: '/run/s', group: undefined },
      tag: undefined,
      maxMemSlots: 509,
      requestQueues: 1,
      queueThreads: 0,
      pollMicros: 50,
      openFilesLimit: undefined,
      exitOnDisconnect: false,
      logLevel: 'info',
      share: {
        sharedDir: '/srv',
        cache: 'auto',
        writeback: false,
        allowDirectIo: false,
        readdirplus: true,
        xattr: false,
        posixAcl: false,
        killprivV2: true,
        announceSubmounts: true,
        inodeFileHandles: 'prefer',
        locks: 'host',
      },
    });
  });

  test('values are taken after a space as after an equals sign', () => {
    expect(serve('--max-mem-slots', '32768', '--cache', 'never')).toMatchObject({
      maxMemSlots: 32768,
      share: { cache: 'never' },
    });
  });

  test('there are as many queue threads as asked for, else as many as queues and processors', () => {
    const threads = (...args: string[]) => serve(...args).queueThreads;
    expect(threads('--num-request-queues=3', '--queue-threads=2')).toBe(2);
    expect(threads('--num-request-queues=3', '--queue-threads=0')).toBe(0);
    expect(threads('--queue-threads=1')).toBe(1);
    expect(threads('--num-request-queues=1023')).toBe(Math.min(63, availableParallelism()));
    expect(() => threads('--queue-threads=2')).toThrow('allowed up to --num-request-queues, 1');
    expect(() => threads('--queue-threads=some')).toThrow();
  });

  test('--posix-acl implies --xattr', () => {
    expect(serve('--posix-acl').share).toMatchObject({ xattr: true, posixAcl: true });
  });

  test('--fd turns exit-on-disconnect on, and can be told not to', () => {
    const fd = (...args: string[]) => parseFsArguments(['--fd=3', '--shared-dir=/srv', ...args]);
    expect(fd()).toMatchObject({ options: { listen: { kind: 'fd', fd: 3 }, exitOnDisconnect: true } });
    expect(fd('--no-exit-on-disconnect')).toMatchObject({ options: { exitOnDisconnect: false } });
  });

  test.each([
    ['--sandbox=none'],
    ['--seccomp=none'],
    ['--thread-pool-size=0'],
    ['--announce-submounts'],
    ['-f'],
    ['--killpriv-v2'],
  ])('%s describes what we do anyway', (flag) => {
    expect(serve(flag)).toEqual(serve());
  });

  test.each([
    '--sandbox=namespace',
    '--sandbox=chroot',
    '--seccomp=kill',
    '--thread-pool-size=4',
    '--readonly',
    '--syslog',
    '--xattrmap=:map::user.virtiofs.:',
    '--modcaps=+sys_admin',
    '--security-label',
    '--allow-mmap',
    '--preserve-noatime',
    '--uid-map=:0:1:1:',
    '--gid-map=:0:1:1:',
    '--translate-uid=map:0:1:1',
    '--translate-gid=map:0:1:1',
    '--migration-mode=find-paths',
    '--migration-on-error=abort',
    '--migration-verify-handles',
    '--migration-confirm-paths',
  ])('%s is refused, never ignored', (flag) => {
    expect(() => serve(flag)).toThrow(expect.objectContaining({ code: 'NOT_SUPPORTED' }));
    expect(() => serve(flag)).toThrow(flag.split('=')[0]!);
  });

  test.each([
    ['--max-mem-slots=0'],
    ['--max-mem-slots=32769'],
    ['--max-mem-slots=1e3'],
    ['--num-request-queues=0'],
    ['--rlimit-nofile=-1'],
    ['--cache=sometimes'],
    ['--log-level=loud'],
    ['--inode-file-handles=maybe'],
    ['--locks=none'],
    ['--no-such-flag'],
    ['stray'],
  ])('%s is refused by commander', (flag) => {
    expect(() => serve(flag)).toThrow(expect.objectContaining({ exitCode: 1 }));
  });

  test.each([
    [['--shared-dir=/srv']],
    [['--socket-path=/run/s']],
    [['--socket-path=/run/s', '--fd=3', '--shared-dir=/srv']],
    [['--socket-path=', '--shared-dir=/srv']],
    [['--fd=3', '--socket-group=kvm', '--shared-dir=/srv']],
    [[...REQUIRED, `--tag=${'x'.repeat(37)}`]],
    [[...REQUIRED, '--tag=']],
  ])('%j is a wrong option', (args) => {
    expect(() => parseFsArguments(args)).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
  });

  test('--print-capabilities prints JSON as vhost-user.json wants it, without other flags', () => {
    const parsed = parseFsArguments(['--print-capabilities']);
    expect(parsed.kind === 'print' && JSON.parse(parsed.text)).toEqual({
      type: 'fs',
      features: ['separate-options'],
    });
  });
});
