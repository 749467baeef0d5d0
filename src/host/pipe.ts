/** Pipes: a channel of octets that ends when its writing end is closed. pipe(7). */
import { errnoName } from '../../protocol/errno.ts';
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';
import { OwnedFd } from './owned-fd.ts';

const pipe2 = bind('pipe2', 'int', ['uintptr_t', 'int']);

const O_CLOEXEC = 0o2000000;

const ends = NativeMemory.allocate(8);

/** @returns the end to read from and the end to write to. @throws {RangeError} if the process is out of descriptors */
export function createPipe(): { readonly reader: OwnedFd; readonly writer: OwnedFd } {
  const result = pipe2(ends.address, O_CLOEXEC);
  if (result < 0) throw new RangeError(`pipe2: ${errnoName(errno())}`);
  return { reader: new OwnedFd(ends.i32[0]!), writer: new OwnedFd(ends.i32[1]!) };
}
