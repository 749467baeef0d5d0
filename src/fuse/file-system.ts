/**
 * What a file system implements to be served over FUSE.
 *
 * Every operation is one optional method; without it the guest gets ENOSYS. A method takes the request, does its work
 * at once, and returns
 * - ≥ 0: bytes of payload, built in `request.reply` from byte 0 (or put into the guest's buffers through
 *   `request.prepareDataOut`). The server writes the reply header;
 * - −errno: the reply is that error, and no payload whatever was built;
 * - `NO_REPLY`: the guest is told nothing;
 * - `DEFERRED`: not now. The same method is called again later with `request.isRetry`, until it answers or the guest
 *   gives up (EINTR). Only requests without data buffers may be deferred: locks;
 * - `IN_FLIGHT`: the kernel works on it, as `request.ticket`; the answer comes from `inFlight`. Only for READ, and for
 *   requests that are answered without a payload.
 *
 * The server has checked before: argument size; names (not empty, no `/`, not `.` or `..`, at most 255 bytes,
 * NUL-terminated); that the guest has room for the fixed reply struct named below. It has not checked nodeids, handles,
 * flags, modes, sizes or offsets: those are the guest's word. A u64 may be any value; offsets above 2^53 are the
 * method's to refuse. Methods do not throw in ordinary flow; an exception ends the process.
 *
 * The request belongs to the server: nothing of it may be kept. Structs are in `protocol/fuse-requests.ts` and
 * `protocol/fuse-attributes.ts`; `request.u32(ReadIn.offset.size)` reads a field.
 */
import type { FuseRequest } from './request.ts';

/** Returned instead of a size: no reply at all. Outside the range of errnos. */
export const NO_REPLY = -0x1_0000;
/** Returned instead of a size: try this request again later. Outside the range of errnos. */
export const DEFERRED = -0x1_0001;

/** Returned instead of a size: `inFlight` will have the answer. Outside the range of errnos. */
export const IN_FLIGHT = -0x1_0002;

/** What the kernel works on for a file system, in guest memory: it must stay mapped until the answers were taken. */
export interface InFlight {
  /** An eventfd, signalled when there may be answers. Lent. */
  readonly eventFd: number;
  /** Requests under way. Their tickets are below `capacity`. */
  readonly count: number;
  readonly capacity: number;
  /** Gives the kernel what it was not given yet. To be called before waiting for anything. */
  submit(): void;
  /** Takes an answer. @returns its ticket, with `result` set; −1 if there is none */
  take(): number;
  /** Of the answer taken last: bytes that were put into the guest's buffers behind the reply's header, or −errno. */
  readonly result: number;
  /** Waits until there is an answer; `count` > 0. */
  wait(): void;
}

/** What a file system can do beyond the minimum; each missing one is off. `init.ts` turns them into INIT flags. */
export interface Capabilities {
  /** fcntl locks come as GETLK, SETLK, SETLKW; else they are local to the guest. */
  readonly posixLocks?: boolean;
  /** flock locks come as SETLK, SETLKW with FUSE_LK_FLOCK; else they are local to the guest. */
  readonly flockLocks?: boolean;
  /** READDIRPLUS: never, when the guest expects to need it (the usual), or always. */
  readonly readdirplus?: 'never' | 'auto' | 'always';
  readonly writebackCache?: boolean;
  /** The file system clears setuid, setgid and file capabilities as HANDLE_KILLPRIV_V2 asks. */
  readonly killprivV2?: boolean;
  /** POSIX ACL xattrs are stored and enforced; brings DONT_MASK and SETXATTR_EXT. The file system then applies umask. */
  readonly posixAcl?: boolean;
  /** Creating requests carry a security context. */
  readonly securityContext?: boolean;
  /** Attributes may say FUSE_ATTR_SUBMOUNT. */
  readonly submounts?: boolean;
  /** Shared mmap is allowed on files opened with FOPEN_DIRECT_IO. */
  readonly directIoMmap?: boolean;
  /** READLINK answers may be cached. */
  readonly cacheSymlinks?: boolean;
  /** Creating requests carry the supplementary group that matters. */
  readonly supplementaryGroups?: boolean;
  /** Id-mapped mounts in the guest. Requests that create nothing then come from FUSE_INVALID_UIDGID. */
  readonly idmap?: boolean;
}

/** What both sides agreed on in INIT. */
export interface Negotiated {
  /** Protocol minor both speak: the smaller one. */
  readonly minor: number;
  /** FuseInitFlag bits both have. */
  readonly flags: bigint;
  /** Most bytes of one WRITE. */
  readonly maxWrite: number;
  readonly maxReadahead: number;
}

/** Serves one request: bytes of payload, −errno, NO_REPLY or DEFERRED. */
export type Operation = (request: FuseRequest) => number;

/** Life of a mount; all of it is optional, like the operations. */
interface Lifecycle {
  /** Fixed for the life of the object. */
  readonly capabilities: Capabilities;
  /** A guest mounts. Comes again after each `destroy`. */
  init?(negotiated: Negotiated): void;
  /**
   * The mount began, or begins anew, by `init` of another object for the same file system on another thread. What it
   * agreed on holds here, too; nothing else is to be done.
   */
  join?(negotiated: Negotiated): void;
  /**
   * The mount is gone: unmounted, mounted anew without unmounting, or the device was reset. Every open handle, lock and
   * lookup count of it ends here; no request comes before the next `init`. May come when there is nothing to end.
   */
  destroy?(): void;
  /** The guest drops `nlookup` references to `nodeid` (FORGET, and each entry of BATCH_FORGET). Both are unchecked. */
  forget?(nodeid: number, nlookup: number): void;
  /**
   * What can be put off until there is nothing else to do: called before the thread sleeps, and now and then while it
   * does not.
   *
   * @param now milliseconds of the machine's monotonic clock
   * @returns milliseconds after which to call again even if no request has come; −1 for not before one has
   */
  upkeep?(now: number): number;
  /** For a file system whose methods return IN_FLIGHT. */
  readonly inFlight?: InFlight | undefined;
  /** A request that was DEFERRED is answered with an error instead of being tried again: what it waited for is moot. */
  cancel?(request: FuseRequest): void;
}

/** Methods of `FileSystem` that serve a request, by name. Input → payload. */
export interface Operations {
  /** name[0] in nodeid → EntryOut; one lookup count. nodeid 0 in the reply: a negative entry that may be cached. */
  lookup?(request: FuseRequest): number;
  /** GetattrIn → AttrOut. */
  getattr?(request: FuseRequest): number;
  /** StatxIn → StatxOut. */
  statx?(request: FuseRequest): number;
  /** SetattrIn → AttrOut. */
  setattr?(request: FuseRequest): number;
  /** → the target's octets, without NUL. */
  readlink?(request: FuseRequest): number;
  /** name[0], target name[1] (any octets but NUL, 1…4095 of them); extensions → EntryOut. */
  symlink?(request: FuseRequest): number;
  /** MknodIn, name[0]; extensions → EntryOut. */
  mknod?(request: FuseRequest): number;
  /** MkdirIn, name[0]; extensions → EntryOut. */
  mkdir?(request: FuseRequest): number;
  /** name[0] → nothing. */
  unlink?(request: FuseRequest): number;
  /** name[0] → nothing. */
  rmdir?(request: FuseRequest): number;
  /** RENAME and RENAME2: Rename2In (flags 0 for RENAME), name[0] → name[1] in newdir → nothing. */
  rename?(request: FuseRequest): number;
  /** LinkIn, name[0] in nodeid → EntryOut. */
  link?(request: FuseRequest): number;
  /** OpenIn → OpenOut. */
  open?(request: FuseRequest): number;
  /** ReadIn → up to `size` octets through `prepareDataOut`; fewer mean end of file. */
  read?(request: FuseRequest): number;
  /** WriteIn, octets through `prepareDataIn` → WriteOut. */
  write?(request: FuseRequest): number;
  /** → StatfsOut. */
  statfs?(request: FuseRequest): number;
  /** ReleaseIn → nothing. The handle ends whatever is returned. */
  release?(request: FuseRequest): number;
  /** FsyncIn → nothing. */
  fsync?(request: FuseRequest): number;
  /** SetxattrIn (setxattrFlags 0 without SETXATTR_EXT), name[0], value (`valueSize` = size, at most 64 KiB) → nothing. */
  setxattr?(request: FuseRequest): number;
  /** GetxattrIn, name[0] → the value's octets, or GetxattrOut when size is 0; ERANGE when size is too small. */
  getxattr?(request: FuseRequest): number;
  /** GetxattrIn → names, each with its NUL, or GetxattrOut when size is 0; ERANGE when size is too small. */
  listxattr?(request: FuseRequest): number;
  /** name[0] → nothing. */
  removexattr?(request: FuseRequest): number;
  /** FlushIn → nothing. A descriptor of the file was closed: drops the fcntl locks of lockOwner. */
  flush?(request: FuseRequest): number;
  /** OpenIn → OpenOut. */
  opendir?(request: FuseRequest): number;
  /** ReadIn → Dirent records, each with its name padded to 8 bytes, at most `size` and `replyRoom` bytes of them. */
  readdir?(request: FuseRequest): number;
  /** ReadIn → Direntplus records likewise; each with nodeid ≠ 0 counts as a lookup. */
  readdirplus?(request: FuseRequest): number;
  /** ReleaseIn → nothing. */
  releasedir?(request: FuseRequest): number;
  /** FsyncIn → nothing. */
  fsyncdir?(request: FuseRequest): number;
  /** LkIn → LkOut. */
  getlk?(request: FuseRequest): number;
  /** SETLK and SETLKW (`request.opcode` says which): LkIn → nothing. SETLKW may be DEFERRED while another holds it. */
  setlk?(request: FuseRequest): number;
  /** AccessIn → nothing. */
  access?(request: FuseRequest): number;
  /** CreateIn, name[0]; extensions → EntryOut, OpenOut. */
  create?(request: FuseRequest): number;
  /** CreateIn, name[0] (of no meaning, unchecked: Linux sends "/"); extensions → EntryOut, OpenOut. nodeid is the directory. */
  tmpfile?(request: FuseRequest): number;
  /** BmapIn → BmapOut. */
  bmap?(request: FuseRequest): number;
  /** IoctlIn, value (`valueSize` = inSize) → IoctlOut and up to outSize octets. */
  ioctl?(request: FuseRequest): number;
  /** PollIn → PollOut. */
  poll?(request: FuseRequest): number;
  /** FallocateIn → nothing. */
  fallocate?(request: FuseRequest): number;
  /** LseekIn → LseekOut. */
  lseek?(request: FuseRequest): number;
  /** Both COPY_FILE_RANGE: CopyFileRangeIn → CopyFileRangeOut; without _64 at most 2^32 − 1 bytes may be copied. */
  copyFileRange?(request: FuseRequest): number;
  /** SyncfsIn → nothing. */
  syncfs?(request: FuseRequest): number;
}

export interface FileSystem extends Lifecycle, Operations {}
