/**
 * A file system that is a directory of the host.
 *
 * The guest is hostile; the host is not. So what a request names is looked up in our tables, single names only are
 * resolved, links never followed, and nothing but regular files and directories is opened. What the guest's users may
 * do is checked by the guest's kernel (virtio-fs mounts with default permissions); new files get their ids.
 *
 * An object belongs to the thread that made it. Several threads of one process may serve one share: the first is made
 * with `isShared`, each other attaches to its `handover`.
 */
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import type { Capabilities, FileSystem, InFlight, Negotiated } from '../fuse/file-system.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { AT_FDCWD, O_DIRECTORY, O_PATH, openFile } from '../host/files-open.ts';
import { openFilesLimit } from '../host/limits.ts';
import { NativeMemory } from '../host/native-memory.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import * as attributes from './attributes.ts';
import * as creating from './create.ts';
import * as content from './data.ts';
import { DirectoryReader } from './directories.ts';
import { fdLimitOf } from './fd-budget.ts';
import * as files from './files.ts';
import { ioctl } from './ioctls.ts';
import * as locks from './locks.ts';
import * as names from './names.ts';
import type { PassthroughOptions } from './options.ts';
import { ShareState } from './share-state.ts';
import { type TableHandover, TableMemory } from './table-memory.ts';
import * as xattrs from './xattrs.ts';

const PATH_MAX = 4096;
/** Of the open files limit: the rest is for sockets, eventfds, and what is open for a moment. */
const BUDGET_SHARE = 0.75;

/** What another thread of this process needs to serve the same share: plain data, a structured clone of it will do. */
export interface PassthroughHandover {
  readonly options: PassthroughOptions;
  readonly tables: TableHandover;
  /** A descriptor, lent. */
  readonly procSelfFd: number;
}

export class PassthroughFs implements FileSystem, Disposable {
  readonly capabilities: Capabilities;
  readonly #share: ShareState;
  readonly #directories: DirectoryReader;
  /** Descriptors and tables, which only the first object of a share has. */
  readonly #owned = new Cleanup();
  readonly #isFirst: boolean;
  #isDisposed = false;

  /**
   * Shares a directory. The calling thread gets a umask of its own.
   *
   * @param use `alone`: by this thread. `shared`: others will `attach`, which costs some atomic operations a request
   * @throws {ConfigError} SYSTEM if the directory cannot be shared: it is none, /proc is missing, or file handles
   *   are mandatory and do not work
   */
  constructor(options: PassthroughOptions, use: 'alone' | 'shared' | PassthroughHandover = 'alone') {
    this.#isFirst = typeof use === 'string';
    try {
      this.#share = typeof use === 'string' ? this.#open(options, use === 'shared') : attached(use);
    } catch (error) {
      this.#owned[Symbol.dispose]();
      throw error;
    }
    const { identity } = this.#share;
    this.#directories = new DirectoryReader(this.#share);
    this.capabilities = {
      posixLocks: options.locks === 'host',
      flockLocks: options.locks === 'host',
      readdirplus: options.readdirplus ? 'auto' : 'never',
      writebackCache: options.writeback,
      killprivV2: options.killprivV2,
      posixAcl: options.posixAcl,
      submounts: options.announceSubmounts,
      supplementaryGroups: identity.canAct,
      idmap: identity.canAct,
    };
  }

  /** Serves, on the calling thread, a share that another opened as `shared`. That one is disposed of last. */
  static attach(handover: PassthroughHandover): PassthroughFs {
    return new PassthroughFs(handover.options, handover);
  }

  #open(options: PassthroughOptions, isShared: boolean): ShareState {
    const rootFd = this.#owned.use(openDirectory(options.sharedDir));
    const procSelfFd = this.#owned.use(openDirectory('/proc/self/fd'));
    const limit = fdLimitOf(options.fdBudget ?? openFilesLimit() * BUDGET_SHARE);
    const memory = this.#owned.use(TableMemory.reserve(limit, isShared));
    const share = new ShareState(options, memory, procSelfFd.fd);
    const result = share.inodes.setRoot(rootFd.release(), options.inodeFileHandles);
    if (result < 0) {
      share.inodes.references.forgetRoot();
      throw new ConfigError('SYSTEM', `${options.sharedDir} cannot be shared: ${errnoName(-result)}`);
    }
    return share;
  }

  /** @throws {RangeError} if the share was not opened to be shared */
  handover(): PassthroughHandover {
    const { memory, options, procSelfFd } = this.#share;
    if (!memory.isShared) throw new RangeError('handover: the share was opened for one thread');
    return { options, tables: memory.handover, procSelfFd };
  }

  /** How inodes are held, after what was asked for was tried on the root. */
  get inodeFileHandles(): PassthroughOptions['inodeFileHandles'] {
    return this.#share.inodes.policy;
  }

  /** Inodes the guest knows. */
  get inodeCount(): number {
    return this.#isDisposed ? 0 : this.#share.inodes.table.count;
  }

  /** Files and directories the guest has open. */
  get openCount(): number {
    return this.#isDisposed ? 0 : this.#share.handles.count;
  }

  /** Descriptors held, of those `fdLimit` allows. */
  get fdCount(): number {
    return this.#isDisposed ? 0 : this.#share.budget.used;
  }

  get fdLimit(): number {
    return this.#share.budget.limit;
  }

  /** Once for all threads, on any of them. */
  init({ flags }: Negotiated): void {
    this.#share.agree(flags);
  }

  /**
   * Everything the guest held is let go; the root stays, for the next mount. Once for all threads, on any of them; what
   * another is still serving ends there.
   */
  destroy(): void {
    const share = this.#share;
    share.locks.dropAll();
    for (let row = 1; row < share.handles.top; row += 1)
      if (share.handles.isOpen(row)) files.closeHandle(share, row);
    share.inodes.references.forgetAll();
    share.inodes.fresh.closeAll();
    this.#end(0);
  }

  forget(nodeid: number, nlookup: number): void {
    this.#share.inodes.references.forget(nodeid, nlookup);
  }

  /** Ends what was kept open for a moment. */
  upkeep(now: number): number {
    const wait = this.#share.inodes.fresh.endDue(now);
    if (wait >= 0) this.#end(0);
    return wait;
  }

  cancel(request: FuseRequest): void {
    locks.cancel(this.#share, request);
  }

  /** Whether new files are made as the guest's users, and belong to them; otherwise they are the daemon's. */
  get actsAsUsers(): boolean {
    return this.#share.identity.canAct;
  }

  /** Reads of data that is not cached. */
  get inFlight(): InFlight | undefined {
    return this.#share.cold;
  }

  /** Ends for good: no descriptor is left. Nothing is in flight any more. The object that opened the share goes last. */
  dispose(): void {
    if (this.#isDisposed) return;
    this.#isDisposed = true;
    if (this.#isFirst) {
      this.destroy();
      this.#share.inodes.references.forgetRoot();
    }
    this.#end(0);
    this.#share.inUse.leaveThread();
    this.#share.cold?.close();
    this.#owned[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  /** After each request: what it used may be given up. */
  #end(result: number): number {
    if (this.#share.inUse.clear()) files.settleLeftovers(this.#share);
    return result;
  }

  lookup(request: FuseRequest): number {
    return this.#end(names.lookup(this.#share, request));
  }
  getattr(request: FuseRequest): number {
    return this.#end(attributes.getattr(this.#share, request));
  }
  statx(request: FuseRequest): number {
    return this.#end(attributes.statx(this.#share, request));
  }
  setattr(request: FuseRequest): number {
    return this.#end(attributes.setattr(this.#share, request));
  }
  readlink(request: FuseRequest): number {
    return this.#end(attributes.readlink(this.#share, request));
  }
  symlink(request: FuseRequest): number {
    return this.#end(creating.symlink(this.#share, request));
  }
  mknod(request: FuseRequest): number {
    return this.#end(creating.mknod(this.#share, request));
  }
  mkdir(request: FuseRequest): number {
    return this.#end(creating.mkdir(this.#share, request));
  }
  unlink(request: FuseRequest): number {
    return this.#end(names.unlink(this.#share, request));
  }
  rmdir(request: FuseRequest): number {
    return this.#end(names.rmdir(this.#share, request));
  }
  rename(request: FuseRequest): number {
    return this.#end(names.rename(this.#share, request));
  }
  link(request: FuseRequest): number {
    return this.#end(names.link(this.#share, request));
  }
  open(request: FuseRequest): number {
    return this.#end(files.open(this.#share, request));
  }
  read(request: FuseRequest): number {
    return this.#end(content.read(this.#share, request));
  }
  write(request: FuseRequest): number {
    return this.#end(content.write(this.#share, request));
  }
  statfs(request: FuseRequest): number {
    return this.#end(attributes.statfs(this.#share, request));
  }
  release(request: FuseRequest): number {
    return this.#end(files.release(this.#share, request));
  }
  fsync(request: FuseRequest): number {
    return this.#end(files.fsync(this.#share, request));
  }
  setxattr(request: FuseRequest): number {
    return this.#end(xattrs.setxattr(this.#share, request));
  }
  getxattr(request: FuseRequest): number {
    return this.#end(xattrs.getxattr(this.#share, request));
  }
  listxattr(request: FuseRequest): number {
    return this.#end(xattrs.listxattr(this.#share, request));
  }
  removexattr(request: FuseRequest): number {
    return this.#end(xattrs.removexattr(this.#share, request));
  }
  flush(request: FuseRequest): number {
    return this.#end(files.flush(this.#share, request));
  }
  opendir(request: FuseRequest): number {
    return this.#end(files.opendir(this.#share, request));
  }
  readdir(request: FuseRequest): number {
    return this.#end(this.#directories.list(request, false));
  }
  readdirplus(request: FuseRequest): number {
    return this.#end(this.#directories.list(request, true));
  }
  releasedir(request: FuseRequest): number {
    return this.#end(files.release(this.#share, request));
  }
  fsyncdir(request: FuseRequest): number {
    return this.#end(files.fsync(this.#share, request));
  }
  getlk(request: FuseRequest): number {
    return this.#end(locks.getlk(this.#share, request));
  }
  setlk(request: FuseRequest): number {
    return this.#end(locks.setlk(this.#share, request));
  }
  access(request: FuseRequest): number {
    return this.#end(attributes.access(this.#share, request));
  }
  create(request: FuseRequest): number {
    return this.#end(creating.create(this.#share, request));
  }
  tmpfile(request: FuseRequest): number {
    return this.#end(creating.tmpfile(this.#share, request));
  }
  ioctl(request: FuseRequest): number {
    return this.#end(ioctl(this.#share, request));
  }
  fallocate(request: FuseRequest): number {
    return this.#end(content.fallocate(this.#share, request));
  }
  lseek(request: FuseRequest): number {
    return this.#end(content.lseek(this.#share, request));
  }
  copyFileRange(request: FuseRequest): number {
    return this.#end(content.copyFileRange(this.#share, request));
  }
  syncfs(request: FuseRequest): number {
    return this.#end(content.syncfs(this.#share, request));
  }
}

const attached = ({ options, tables, procSelfFd }: PassthroughHandover): ShareState =>
  new ShareState(options, TableMemory.attach(tables), procSelfFd);

function openDirectory(path: string): OwnedFd {
  const scratch = NativeMemory.allocate(PATH_MAX);
  const octets = Buffer.from(`${path}\0`);
  if (octets.length > scratch.size)
    throw new ConfigError('SYSTEM', `${path}: longer than ${scratch.size} bytes`);
  scratch.u8.set(octets);
  const fd = openFile(AT_FDCWD, scratch.address, O_PATH | O_DIRECTORY, 0);
  if (fd < 0)
    throw new ConfigError('SYSTEM', `${path} is no directory that can be opened: ${errnoName(-fd)}`);
  return new OwnedFd(fd);
}
