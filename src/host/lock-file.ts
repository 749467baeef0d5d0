/** A file that says that a process is at work: locked as long as it lives, whatever way it ends. */
import { errnoName } from '../../protocol/errno.ts';
import { closeSync, constants, fstatSync, ftruncateSync, openSync, unlinkSync, writeSync } from 'node:fs';
import { bind, errno } from './libc.ts';

const flock = bind('flock', 'int', ['int', 'int']);

const LOCK_EX = 2;
const LOCK_NB = 4;
const EWOULDBLOCK = 11;

/** Not through a link: what is locked is emptied. */
const OPEN_FLAGS = constants.O_CREAT | constants.O_WRONLY | constants.O_APPEND | constants.O_NOFOLLOW;

/** Holds the lock of a file with our process id in it, and removes the file when it is closed. */
export class LockFile implements Disposable {
  readonly #path: string;
  #fd: number;

  private constructor(path: string, fd: number) {
    this.#path = path;
    this.#fd = fd;
  }

  /**
   * @returns undefined if another process holds the lock
   * @throws the system error of opening or locking the file
   */
  static take(path: string): LockFile | undefined {
    let fd = openLocked(path);
    // Its owner removed it after we opened it: who comes next locks another file of that name.
    while (fd >= 0 && fstatSync(fd).nlink === 0) {
      closeSync(fd);
      fd = openLocked(path);
    }
    if (fd < 0) return undefined;
    ftruncateSync(fd);
    writeSync(fd, `${process.pid}\n`);
    return new LockFile(path, fd);
  }

  /** Idempotent. */
  close(): void {
    if (this.#fd < 0) return;
    try {
      unlinkSync(this.#path);
    } catch {
      // Somebody removed it before us: it is gone, which is what we want.
    }
    closeSync(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/** @returns −1 if another process holds the lock */
function openLocked(path: string): number {
  const fd = openSync(path, OPEN_FLAGS, 0o600);
  const result = flock(fd, LOCK_EX | LOCK_NB);
  if (result >= 0) return fd;
  const error = errno();
  closeSync(fd);
  if (error === EWOULDBLOCK) return -1;
  throw new Error(`flock ${path}: ${errnoName(error)}`);
}
