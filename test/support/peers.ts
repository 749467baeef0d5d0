/**
 * Back-ends our front-end has to work with: our own as built, and those of others that `guest-kit.sh peers` unpacks.
 *
 * A machine that cannot have those skips their tests, with the reason printed; `VHOST_USER_GUEST=require` makes that a
 * failure instead.
 */
import { spawnSync } from 'node:child_process';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import type { BackendCommand } from '../../src/cli/spawned-backend.ts';
import { isKitRequired, KIT, REPOSITORY } from './guest-kit.ts';

const SCRIPT = fileURLToPath(new URL('guest-kit.sh', import.meta.url));
const FS_ARGUMENTS = ['--socket-path={socket}', '--shared-dir={dir}'];

/** Our own daemon, as built. */
export const ourBackend = (...flags: readonly string[]): BackendCommand => ({
  program: process.execPath,
  args: [join(REPOSITORY, 'dist/src/cli/vhost-user-fs.js'), '--log-level=error', ...FS_ARGUMENTS, ...flags],
});

/** virtiofsd 1.13 of Debian 13. */
export const RUST_VIRTIOFSD: BackendCommand = {
  program: join(KIT, 'peers/run-rust'),
  args: [...FS_ARGUMENTS, '--sandbox=none', '--seccomp=none', '--log-level=error'],
};

/** virtiofsd 7.2 of Debian 12. */
export const C_VIRTIOFSD: BackendCommand = {
  program: join(KIT, 'peers/run-c'),
  args: ['--socket-path={socket}', '-o', 'source={dir}', '-o', 'sandbox=chroot', '-o', 'log_level=err', '-f'],
};

/** qemu-storage-daemon 7.2 of Debian 12. @param disk a raw image */
export const storageDaemon = (disk: string): BackendCommand => ({
  program: join(KIT, 'peers/run-qsd'),
  args: [
    '--blockdev',
    `driver=file,node-name=disk,filename=${disk}`,
    '--export',
    'type=vhost-user-blk,id=e0,node-name=disk,addr.type=unix,addr.path={socket},writable=on',
  ],
});

/** Makes the peers of others ready. @returns why there are none; undefined if there are */
export function missingPeers(): string | undefined {
  const { status, stderr } = spawnSync('sh', [SCRIPT, 'peers'], { encoding: 'utf8' });
  if (status === 0) return undefined;
  const reason = stderr.trim().split('\n').at(-1) ?? `guest-kit.sh ended with ${status}`;
  if (isKitRequired())
    throw new Error(`VHOST_USER_GUEST=require, but there are no back-ends of others: ${reason}`);
  console.log(`tests with back-ends of others are skipped: ${reason}`);
  return reason;
}
