/**
 * A file system that is a directory of the host.
 *
 * The guest is hostile; the host is not. So what a request names is looked up in our tables, single names only are
 * resolved, links never followed, and nothing but regular files and directories is opened. What the guest's users may
 * do is checked by the guest's kernel (virtio-fs mounts with default permissions); new files get their ids.
 *
 * Everything runs on the thread that made the object.
 */
import { errnoName } from '../../protocol/errno.ts';
import { ConfigError } from '../errors.ts';
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import type { Capabilities, FileSystem, Negotiated } from '../fuse/file-system.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { AT_FDCWD, fdName, O_DIRECTORY, O_PATH, openFile } from '../host/files-open.ts';
import { openFilesLimit } from '../host/limits.ts';
import { NativeMemory } from '../host/native-memory.ts';
import { Cleanup, OwnedFd } from '../host/owned-fd.ts';
import * as attributes from './attributes.ts';
import * as creating from './create.ts';
import * as content from './data.ts';
import { DirectoryReader } from './directories.ts';
import { FdBudget } from './fd-budget.ts';
import * as files from './files.ts';
import { HandleTable } from './handle-table.ts';
import { Identity } from './identity.ts';
import { InodeStore } from './inode-store.ts';
import { ioctl } from './ioctls.ts';
import { LockTable } from './lock-table.ts';
import * as locks from './locks.ts';
import * as names from './names.ts';
import type { CachePolicy, PassthroughOptions } from './options.ts';
import type { Share } from './share.ts';
import * as xattrs from './xattrs.ts';

const CACHE_SECONDS: { readonly [policy in CachePolicy]: number } = {
  never: 0,
  auto: 1,
  metadata: 86_400,
  always: 86_400,
};
const PATH_MAX = 4096;
const RECORDS_SIZE = 256 * 1024;
/** Of the open files limit: the rest is for sockets, eventfds, and what is open for a moment. */
const BUDGET_SHARE = 0.75;

export class PassthroughFs implements FileSystem, Disposable {
  readonly capabilities: Capabilities;
  readonly #share: Share;
  readonly #directories: DirectoryReader;
  readonly #rootFd: OwnedFd;
  readonly #procSelfFd: OwnedFd;

  /**
   * @throws {ConfigError} SYSTEM if the directory cannot be shared: it is none, /proc is missing, or file handles
   *   are mandatory and do not work
   */
  constructor(options: PassthroughOptions) {
    const scratch = NativeMemory.allocate(2 * PATH_MAX);
    using undo = new Cleanup();
    this.#rootFd = undo.use(openDirectory(scratch, options.sharedDir));
    this.#procSelfFd = undo.use(openDirectory(scratch, '/proc/self/fd'));
    const procSelfFd = this.#procSelfFd.fd;
    const identity = new Identity();
    const budget = new FdBudget(options.fdBudget ?? openFilesLimit() * BUDGET_SHARE);
    const inodes = new InodeStore(budget, procSelfFd, options.inodeFileHandles);
    this.#share = {
      options,
      budget,
      inodes,
      handles: new HandleTable(),
      identity,
      locks: new LockTable(inodes, budget),
      procSelfFd,
      cacheSeconds: CACHE_SECONDS[options.cache],
      records: NativeMemory.allocate(RECORDS_SIZE),
      scratch,
      isWriteback: false,
      hasPosixAcl: false,
      hasSubmounts: false,
      hasKillpriv: false,
    };
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
    const result = this.#openRoot();
    if (result < 0) {
      this.#closeAll();
      throw new ConfigError('SYSTEM', `${options.sharedDir} cannot be shared: ${errnoName(-result)}`);
    }
    undo.keep();
  }

  /** How inodes are held, after what was asked for was tried on the root. */
  get inodeFileHandles(): PassthroughOptions['inodeFileHandles'] {
    return this.#share.inodes.policy;
  }

  /** Inodes the guest knows. */
  get inodeCount(): number {
    return this.#share.inodes.table.count;
  }

  /** Files and directories the guest has open. */
  get openCount(): number {
    return this.#share.handles.count;
  }

  /** Descriptors held, of those `fdLimit` allows. */
  get fdCount(): number {
    return this.#share.budget.used;
  }

  get fdLimit(): number {
    return this.#share.budget.limit;
  }

  init({ flags }: Negotiated): void {
    const share = this.#share;
    share.isWriteback = (flags & FuseInitFlag.WRITEBACK_CACHE) !== 0n;
    share.hasPosixAcl = (flags & FuseInitFlag.POSIX_ACL) !== 0n;
    share.hasSubmounts = (flags & FuseInitFlag.SUBMOUNTS) !== 0n && share.options.announceSubmounts;
    share.hasKillpriv = (flags & FuseInitFlag.HANDLE_KILLPRIV_V2) !== 0n;
    if (share.inodes.table.count === 0) this.#openRoot();
  }

  /** Everything the guest held is let go; the root stays, for the next mount. */
  destroy(): void {
    this.#closeAll();
    this.#openRoot();
  }

  forget(nodeid: number, nlookup: number): void {
    const slot = this.#share.inodes.table.slotOf(nodeid);
    if (slot >= 0) this.#share.inodes.forget(slot, nlookup);
  }

  cancel(request: FuseRequest): void {
    locks.cancel(this.#share, request);
  }

  /** Ends for good: no descriptor is left. */
  dispose(): void {
    this.#closeAll();
    this.#procSelfFd.close();
    this.#rootFd.close();
  }

  [Symbol.dispose](): void {
    this.dispose();
  }

  #closeAll(): void {
    const share = this.#share;
    share.locks.clearAll();
    for (let row = 1; row < share.handles.top; row += 1)
      if (share.handles.fh[row] !== 0) files.closeHandle(share, row);
    share.inodes.clear();
  }

  #openRoot(): number {
    const fd = openFile(this.#share.procSelfFd, fdName(this.#rootFd.fd), O_PATH | O_DIRECTORY, 0);
    return fd < 0 ? fd : this.#share.inodes.setRoot(fd);
  }

  lookup(request: FuseRequest): number {
    return names.lookup(this.#share, request);
  }
  getattr(request: FuseRequest): number {
    return attributes.getattr(this.#share, request);
  }
  statx(request: FuseRequest): number {
    return attributes.statx(this.#share, request);
  }
  setattr(request: FuseRequest): number {
    return attributes.setattr(this.#share, request);
  }
  readlink(request: FuseRequest): number {
    return attributes.readlink(this.#share, request);
  }
  symlink(request: FuseRequest): number {
    return creating.symlink(this.#share, request);
  }
  mknod(request: FuseRequest): number {
    return creating.mknod(this.#share, request);
  }
  mkdir(request: FuseRequest): number {
    return creating.mkdir(this.#share, request);
  }
  unlink(request: FuseRequest): number {
    return names.unlink(this.#share, request);
  }
  rmdir(request: FuseRequest): number {
    return names.rmdir(this.#share, request);
  }
  rename(request: FuseRequest): number {
    return names.rename(this.#share, request);
  }
  link(request: FuseRequest): number {
    return names.link(this.#share, request);
  }
  open(request: FuseRequest): number {
    return files.open(this.#share, request);
  }
  read(request: FuseRequest): number {
    return content.read(this.#share, request);
  }
  write(request: FuseRequest): number {
    return content.write(this.#share, request);
  }
  statfs(request: FuseRequest): number {
    return attributes.statfs(this.#share, request);
  }
  release(request: FuseRequest): number {
    return files.release(this.#share, request);
  }
  fsync(request: FuseRequest): number {
    return files.fsync(this.#share, request);
  }
  setxattr(request: FuseRequest): number {
    return xattrs.setxattr(this.#share, request);
  }
  getxattr(request: FuseRequest): number {
    return xattrs.getxattr(this.#share, request);
  }
  listxattr(request: FuseRequest): number {
    return xattrs.listxattr(this.#share, request);
  }
  removexattr(request: FuseRequest): number {
    return xattrs.removexattr(this.#share, request);
  }
  flush(request: FuseRequest): number {
    return files.flush(this.#share, request);
  }
  opendir(request: FuseRequest): number {
    return files.opendir(this.#share, request);
  }
  readdir(request: FuseRequest): number {
    return this.#directories.list(request, false);
  }
  readdirplus(request: FuseRequest): number {
    return this.#directories.list(request, true);
  }
  releasedir(request: FuseRequest): number {
    return files.release(this.#share, request);
  }
  fsyncdir(request: FuseRequest): number {
    return files.fsync(this.#share, request);
  }
  getlk(request: FuseRequest): number {
    return locks.getlk(this.#share, request);
  }
  setlk(request: FuseRequest): number {
    return locks.setlk(this.#share, request);
  }
  access(request: FuseRequest): number {
    return attributes.access(this.#share, request);
  }
  create(request: FuseRequest): number {
    return creating.create(this.#share, request);
  }
  tmpfile(request: FuseRequest): number {
    return creating.tmpfile(this.#share, request);
  }
  ioctl(request: FuseRequest): number {
    return ioctl(this.#share, request);
  }
  fallocate(request: FuseRequest): number {
    return content.fallocate(this.#share, request);
  }
  lseek(request: FuseRequest): number {
    return content.lseek(this.#share, request);
  }
  copyFileRange(request: FuseRequest): number {
    return content.copyFileRange(this.#share, request);
  }
  syncfs(request: FuseRequest): number {
    return content.syncfs(this.#share, request);
  }
}

function openDirectory(scratch: NativeMemory, path: string): OwnedFd {
  const octets = Buffer.from(`${path}\0`);
  if (octets.length > scratch.size)
    throw new ConfigError('SYSTEM', `${path}: longer than ${scratch.size} bytes`);
  scratch.u8.set(octets);
  const fd = openFile(AT_FDCWD, scratch.address, O_PATH | O_DIRECTORY, 0);
  if (fd < 0)
    throw new ConfigError('SYSTEM', `${path} is no directory that can be opened: ${errnoName(-fd)}`);
  return new OwnedFd(fd);
}
