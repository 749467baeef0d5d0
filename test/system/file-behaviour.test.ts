/** How files behave through the mount, by the same programs that pass on the host's own file system. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, writeFileSync, rmSync } from 'node:fs';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { Daemon } from '../support/daemon.ts';
import { describeGuest } from '../support/guest.ts';
import { KIT } from '../support/guest-kit.ts';
import { Guest } from '../support/qemu.ts';

const ENTRIES = 50_000;

describeGuest('files of the share, as the guest sees them', () => {
  let daemon: Daemon;
  let guest: Guest;

  beforeAll(async () => {
    daemon = await Daemon.start({ name: 'file-behaviour' });
    guest = await Guest.boot({
      name: 'file-behaviour',
      shares: [{ tag: 'share', socketPath: daemon.socketPath }],
    });
    await guest.mount('share');
  });
  afterAll(async () => {
    await guest?.close();
    await daemon?.close();
  });

  test('every behaviour check that passes on the host passes through the mount', async () => {
    const onHost = join(daemon.sharedDir, 'on-host');
    mkdirSync(onHost);
    const hostOutput = execFileSync(join(KIT, 'root/bin/posix'), [onHost], { encoding: 'utf8' });
    await guest.run('mkdir /mnt/in-guest');
    const { output } = await guest.try('posix /mnt/in-guest', 120_000);
    expect(output).toBe(hostOutput);
    expect(output.match(/^ok /gm)).toHaveLength(22);
  });

  test('a directory of 50,000 entries is listed whole, each entry once, while others come and go', async () => {
    const directory = join(daemon.sharedDir, 'many');
    mkdirSync(directory);
    for (let i = 0; i < ENTRIES; i++) writeFileSync(join(directory, `stable-${i}`), '');
    const sorted = "find . -name 'stable-*' 2>/tmp/complaints | sort >/tmp/list";
    const listing = guest.run(
      `cd /mnt/many && ${sorted} && wc -l </tmp/list && uniq /tmp/list | wc -l`,
      200_000,
    );
    await changeUntil(listing, directory);
    rmSync(directory, { recursive: true });
    expect((await listing).split('\n').map(Number)).toEqual([ENTRIES, ENTRIES, 0]);
    // What was listed and is gone by the time `find` looks at it may be complained of, and nothing else.
    const gone = "grep -v '^find: ./other-[0-9]*: No such file or directory$' /tmp/complaints";
    expect(await guest.try(gone)).toMatchObject({ status: 1, output: '' });
  });

  test('what the host changes the guest sees, and the other way round', async () => {
    writeFileSync(join(daemon.sharedDir, 'both'), 'host');
    expect(await guest.run('cat /mnt/both; printf guest >/mnt/both; chmod 4711 /mnt/both; sync')).toBe(
      'host',
    );
    expect(
      execFileSync('sh', ['-c', 'cat both; stat -c %a both'], { cwd: daemon.sharedDir, encoding: 'utf8' }),
    ).toBe('guest4711\n');
    rmSync(join(daemon.sharedDir, 'both'));
    await expect.poll(async () => (await guest.try('stat /mnt/both')).status, { timeout: 10_000 }).toBe(1);
  });

  test('removing everything leaves nothing behind', async () => {
    await guest.run('rm -rf /mnt/*', 120_000);
    expect(execFileSync('ls', ['-A', daemon.sharedDir], { encoding: 'utf8' })).toBe('');
    expect([...guest.kernelErrors(), ...guest.qemuErrors()]).toEqual([]);
  });
});

/** Makes and removes entries beside those that stay, until `end`. */
async function changeUntil(end: Promise<unknown>, directory: string): Promise<void> {
  const ended = end.then(() => true);
  for (let i = 0; ; i++) {
    writeFileSync(join(directory, `other-${i % 200}`), '');
    rmSync(join(directory, `other-${(i + 100) % 200}`), { force: true });
    const turn = new Promise<boolean>((resolve) => setImmediate(() => resolve(false)));
    if (await Promise.race([ended, turn])) return;
  }
}
