/** A file whose data is on a disk and nowhere else. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';

/** A directory that lies on a disk where this checkout does. */
export function diskDirectory(): string {
  const directory = fileURLToPath(new URL('../../.cache/cold', import.meta.url));
  mkdirSync(directory, { recursive: true });
  return directory;
}

/** Writes `size` octets that differ, down to the disk. @returns them */
export function writeCold(path: string, size: number): Buffer {
  const words = Uint32Array.from({ length: size / 4 }, (_, i) => Math.imul(i + 1, 0x9e37_79b1));
  writeFileSync(path, Buffer.from(words.buffer), { flush: true });
  return readFileSync(path);
}

/** Drops the file's data from the page cache: dd's nocache is POSIX_FADV_DONTNEED. */
export function chill(path: string): void {
  execFileSync('dd', [`if=${path}`, 'iflag=nocache', 'count=0', 'status=none']);
}
