/** What a passthrough share is asked to be. Plain data: it crosses threads as a structured clone. */

/** How long the guest may trust what it has seen, and whether it may cache file data. */
export type CachePolicy = 'never' | 'auto' | 'metadata' | 'always';

/** Where a lock holds: against everybody on the host and other guests, or only among the guest's own processes. */
export type LockScope = 'host' | 'guest';

/** Whether an inode is held by file handle (costs no descriptor) or by an O_PATH descriptor. */
export type InodeFileHandles = 'never' | 'prefer' | 'mandatory';

export interface PassthroughOptions {
  /** The directory to share; nothing outside it is ever reached. */
  readonly sharedDir: string;
  readonly cache: CachePolicy;
  /** Lets the guest buffer writes: it then owns file sizes and O_APPEND. */
  readonly writeback: boolean;
  /** Honours O_DIRECT of guest programs on the host; otherwise the flag is stripped. */
  readonly allowDirectIo: boolean;
  readonly readdirplus: boolean;
  readonly xattr: boolean;
  /** POSIX access control lists; implies that the guest leaves the umask to us. */
  readonly posixAcl: boolean;
  /** Offers FUSE_HANDLE_KILLPRIV_V2: setuid and setgid bits are cleared on the host. */
  readonly killprivV2: boolean;
  /** Marks directories on which another file system is mounted, so that the guest sees a mount point. */
  readonly announceSubmounts: boolean;
  readonly inodeFileHandles: InodeFileHandles;
  /**
   * Of flock and fcntl locks. Linux's virtio-fs driver cannot interrupt a request, so a process that waits for a lock of
   * the host hears no signal until it has it.
   */
  readonly locks: LockScope;
  /**
   * File descriptors this share may hold open at once: inodes, open files, locks. Idle inode descriptors are closed
   * to stay within it; a guest that holds more open files gets ENFILE.
   * Undefined: three quarters of the soft limit of open files.
   */
  readonly fdBudget?: number;
}
