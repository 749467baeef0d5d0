/** Descriptors to close once the tables' lock is given back: the last of a large file may take its time. */
import { closeFile } from '../host/files-open.ts';

export class ToClose {
  readonly #fds: number[] = [];

  add(fd: number): void {
    if (fd >= 0) this.#fds.push(fd);
  }

  closeAll(): void {
    while (this.#fds.length > 0) closeFile(this.#fds.pop()!);
  }
}
