/** Who closes a file descriptor. An `OwnedFd` does; a plain `fd: number` is borrowed. */
import { bind } from './libc.ts';

const closeFd = bind('close', 'int', ['int']);

/** A file descriptor with one owner, closed once. */
export class OwnedFd implements Disposable {
  #fd: number;

  /** @param fd an open descriptor, owned from here on */
  constructor(fd: number) {
    if (!Number.isInteger(fd) || fd < 0) throw new RangeError(`OwnedFd: ${fd} is not a file descriptor`);
    this.#fd = fd;
  }

  /** The descriptor, lent; −1 (which every system call refuses) once closed or released. */
  get fd(): number {
    return this.#fd;
  }

  get isClosed(): boolean {
    return this.#fd < 0;
  }

  /** Hands the descriptor over to the caller, who closes it from here on; −1 if it was closed already. */
  release(): number {
    const fd = this.#fd;
    this.#fd = -1;
    return fd;
  }

  /** Idempotent. What close(2) answers is not looked at: Linux has let go of the descriptor whatever it says. */
  close(): void {
    if (this.#fd < 0) return;
    closeFd(this.#fd);
    this.#fd = -1;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}

/**
 * Undoes what a half-finished construction did, newest first, unless `keep` is called.
 *
 *     using undo = new Cleanup();
 *     const socket = undo.use(new OwnedFd(fd));
 *     …
 *     undo.keep(); // from here on the new object owns the socket
 */
export class Cleanup implements Disposable {
  #undo: (() => void)[] = [];

  /** Disposes `value` later; gives it back. */
  use<T extends Disposable>(value: T): T {
    this.#undo.push(() => value[Symbol.dispose]());
    return value;
  }

  defer(undo: () => void): void {
    this.#undo.push(undo);
  }

  /** Everything has found its owner: nothing is undone. */
  keep(): void {
    this.#undo = [];
  }

  [Symbol.dispose](): void {
    for (let undo = this.#undo.pop(); undo !== undefined; undo = this.#undo.pop()) undo();
  }
}
