/** Reads file handles, name_to_handle_at(2): names of inodes that outlive any descriptor, and cost none. */
import { Errno } from '../../protocol/errno.ts';
import { FILE_HANDLE_HEADER, fileHandleOf, MAX_HANDLE_BYTES } from '../host/files-open.ts';
import { NativeMemory } from '../host/native-memory.ts';

const MOUNT_ID_AT = FILE_HANDLE_HEADER + MAX_HANDLE_BYTES;

export class FileHandles {
  readonly #memory = NativeMemory.allocate(MOUNT_ID_AT + 8);

  /** Address of the handle read last. */
  get address(): number {
    return this.#memory.address;
  }

  /** The `struct file_handle` read last, in words; octets beyond its length are 0 up to a whole word. */
  get words(): Uint32Array {
    return this.#memory.u32;
  }

  /** Reads the handle of what `path` names. @returns 0, EOPNOTSUPP where there are none, or another −errno */
  read(dirfd: number, path: number, flags: number): number {
    const words = this.#memory.u32;
    words[0] = MAX_HANDLE_BYTES;
    const result = fileHandleOf(dirfd, path, this.address, this.address + MOUNT_ID_AT, flags);
    if (result < 0) return result === -Errno.EOVERFLOW ? -Errno.EOPNOTSUPP : result;
    const octets = words[0];
    if (octets === 0) return -Errno.EOPNOTSUPP;
    if (octets % 4 !== 0) words[2 + (octets >>> 2)]! &= 2 ** ((octets % 4) * 8) - 1;
    return 0;
  }
}
