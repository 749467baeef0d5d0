/** Descriptors like those of a recording: what was the same file there is the same file here. */
import { createEventfd } from '../host/eventfd.ts';
import { createMemfd } from '../host/memfd.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import { socketPair } from '../host/unix-socket.ts';
import type { FdDescription } from './conversation-record.ts';

export class ReplayFds implements Disposable {
  readonly #byIdentity = new Map<string, OwnedFd>();
  readonly #owned = new Cleanup();
  /** Our ends of the sockets given away: of back-end request channels, and in place of pipes. */
  readonly #ours: OwnedFd[] = [];

  /**
   * A sparse memfd of the recorded size, an eventfd, or a socket (also for a pipe).
   *
   * @returns lent; undefined if the recording does not say what it was, or the system does not make it
   */
  recreate(description: FdDescription): number | undefined {
    const { kind, ino, id } = description;
    const identity = `${kind} ${kind === 'eventfd' ? id : ino}`;
    const known = (kind === 'eventfd' ? id : ino) === undefined ? undefined : this.#byIdentity.get(identity);
    if (known !== undefined) return known.fd;
    const made = this.#make(description);
    if (made === undefined) return undefined;
    this.#byIdentity.set(identity, this.#owned.use(made));
    return made.fd;
  }

  /** Takes our end of the socket given away last. */
  takeSocket(): OwnedFd | undefined {
    return this.#ours.pop();
  }

  [Symbol.dispose](): void {
    for (const fd of this.#ours.splice(0)) fd.close();
    this.#owned[Symbol.dispose]();
  }

  #make({ kind, name, size }: FdDescription): OwnedFd | undefined {
    if (kind === 'memfd' || kind === 'file') {
      const bytes = Number(size ?? 0);
      return Number.isSafeInteger(bytes) ? owned(createMemfd(name ?? 'replay', bytes)) : undefined;
    }
    if (kind === 'eventfd') return owned(createEventfd());
    if (kind !== 'socket' && kind !== 'pipe') return undefined;
    const [ours, theirs] = socketPair();
    this.#ours.push(ours);
    return theirs;
  }
}

const owned = (fd: number): OwnedFd | undefined => (fd < 0 ? undefined : new OwnedFd(fd));
