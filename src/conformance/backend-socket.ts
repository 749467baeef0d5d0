/** A back-end somebody else started, and keeps running. */
import { errnoName } from '../../protocol/errno.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import { connectUnix } from '../host/unix-socket.ts';
import { type BackendUnderTest, BackendGone } from './backend.ts';

export class BackendSocket implements BackendUnderTest {
  readonly name: string;
  readonly pid = undefined;
  readonly canRestart = false;
  readonly messages = '';
  readonly #path: string;

  constructor({ path, name }: { readonly path: string; readonly name: string }) {
    this.#path = path;
    this.name = name;
  }

  connect(): OwnedFd {
    const fd = connectUnix(this.#path);
    if (fd < 0) throw new BackendGone(`connect to ${this.#path}: ${errnoName(-fd)}`);
    return new OwnedFd(fd);
  }

  ending(): undefined {
    return undefined;
  }

  restart(): Promise<void> {
    return Promise.resolve();
  }

  close(): Promise<void> {
    return Promise.resolve();
  }
}
