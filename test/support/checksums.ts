/** SHA-256 of the files of a directory, as the host sees them and as the guest does. */
import { createHash } from 'node:crypto';
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import type { Guest } from './qemu.ts';

/** Name to digest, of the regular files directly in `directory`. */
export type Checksums = Readonly<Record<string, string>>;

export function hostChecksums(directory: string): Checksums {
  const names = readdirSync(directory).filter((name) => statSync(join(directory, name)).isFile());
  return Object.fromEntries(
    names.map((name) => [
      name,
      createHash('sha256')
        .update(readFileSync(join(directory, name)))
        .digest('hex'),
    ]),
  );
}

/** The same as the guest reads them through `directory`, its page cache dropped before. */
export async function guestChecksums(guest: Guest, directory: string): Promise<Checksums> {
  const find = `find . -maxdepth 1 -type f -exec sha256sum {} +`;
  const output = await guest.run(`cd ${directory} && echo 3 >/proc/sys/vm/drop_caches && ${find}`, 240_000);
  const lines = output.trimEnd().split('\n');
  return Object.fromEntries(lines.map((line) => [line.slice(64 + 2 + 2), line.slice(0, 64)]));
}
