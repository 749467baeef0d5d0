/** The socket front-ends connect to, and who removes its path. */
import { errnoName } from '../../protocol/errno.ts';
import { lstatSync, unlinkSync } from 'node:fs';
import { ConfigError } from '../errors.ts';
import { groupId } from '../host/groups.ts';
import { LockFile } from '../host/lock-file.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import { fdKind, isListening } from '../host/stat.ts';
import { listenUnix } from '../host/unix-socket.ts';
import type { Listen } from './options.ts';

/** Front-ends the kernel keeps waiting while one is served. */
const BACKLOG = 16;
const GROUP_MODE = 0o660;

/** A listening socket. Closing it removes the path it made. */
export class Listener implements Disposable {
  readonly #socket: OwnedFd;
  readonly #made: { readonly path: string; readonly lock: LockFile } | undefined;

  private constructor(socket: OwnedFd, made?: { readonly path: string; readonly lock: LockFile }) {
    this.#socket = socket;
    this.#made = made;
  }

  /**
   * Binds the path or takes over the inherited descriptor. A path left behind by a daemon that died is replaced; that
   * of one that lives is not: its lock file beside the socket tells.
   *
   * @throws {ConfigError} naming the path, group or descriptor and what is wrong with it
   */
  static open(listen: Listen): Listener {
    return listen.kind === 'fd' ? Listener.#inherit(listen.fd) : Listener.#bind(listen.path, listen.group);
  }

  /** The listening descriptor, lent. */
  get fd(): number {
    return this.#socket.fd;
  }

  /** Idempotent. */
  close(): void {
    if (this.#socket.isClosed) return;
    this.#socket.close();
    if (this.#made === undefined) return;
    removeSocket(this.#made.path);
    this.#made.lock.close();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  static #inherit(fd: number): Listener {
    const kind = fdKind(fd);
    if (kind !== 'socket' || !isListening(fd))
      throw new ConfigError(
        'BAD_OPTION',
        `--fd ${fd}: ${kind === 'socket' ? 'a socket that does not listen' : kind}; allowed: an inherited listening socket`,
      );
    return new Listener(new OwnedFd(fd));
  }

  static #bind(path: string, group: string | undefined): Listener {
    using undo = new Cleanup();
    const gid = group === undefined ? undefined : groupId(group);
    if (group !== undefined && gid === undefined)
      throw new ConfigError('BAD_OPTION', `--socket-group ${group}: no such group`);
    const lock = undo.use(takeLock(path));
    removeSocket(path);
    const fd = listenUnix(path, {
      backlog: BACKLOG,
      ...(gid === undefined ? {} : { mode: GROUP_MODE, gid }),
    });
    if (fd < 0) throw new ConfigError('SYSTEM', `--socket-path ${path}: ${errnoName(-fd)}`);
    undo.keep();
    return new Listener(new OwnedFd(fd), { path, lock });
  }
}

function takeLock(path: string): LockFile {
  try {
    const lock = LockFile.take(`${path}.pid`);
    if (lock !== undefined) return lock;
  } catch (cause) {
    throw new ConfigError('SYSTEM', `--socket-path ${path}: ${String(cause)}`, { cause });
  }
  throw new ConfigError('BAD_OPTION', `--socket-path ${path}: another daemon serves it (see ${path}.pid)`);
}

/** Removes what an earlier daemon left. Anything but a socket stays, and binding fails on it. */
function removeSocket(path: string): void {
  const found = lstatSync(path, { throwIfNoEntry: false });
  if (found?.isSocket()) unlinkSync(path);
}
