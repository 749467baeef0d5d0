/**
 * INIT: which protocol version and which flags both sides have.
 *
 * ```
 * no mount ── INIT 7.27 or later ──→ mounted ── DESTROY, reset, another INIT ──→ no mount
 *    │ INIT of a later major: we answer ours, the guest comes again
 *    └ any other request: EIO
 * ```
 */
import { Errno } from '../../protocol/errno.ts';
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import { INIT_IN_COMPAT_SIZE, InitIn, InitOut } from '../../protocol/fuse-requests.ts';
import { FUSE_KERNEL_MINOR_VERSION, FUSE_KERNEL_VERSION } from '../../protocol/fuse.ts';
import type { Capabilities, Negotiated } from './file-system.ts';
import { MAX_TRANSFER } from './request.ts';

/** Linux 4.18. What is older has other struct sizes, and never had virtio-fs (5.4, 7.31). */
const MIN_MINOR = 27;
const PAGE_SIZE = 4096;
const MAX_READAHEAD = MAX_TRANSFER;
/** The guest's limit on asynchronous requests: none of ours, the ring bounds them. */
const MAX_BACKGROUND = 0xffff;
const CONGESTION_THRESHOLD = 0xbfff; // three quarters

/** What every file system served here does. */
const ALWAYS =
  FuseInitFlag.ASYNC_READ |
  FuseInitFlag.PARALLEL_DIROPS |
  FuseInitFlag.BIG_WRITES |
  FuseInitFlag.AUTO_INVAL_DATA |
  FuseInitFlag.ASYNC_DIO |
  FuseInitFlag.HAS_IOCTL_DIR |
  FuseInitFlag.ATOMIC_O_TRUNC |
  FuseInitFlag.MAX_PAGES |
  FuseInitFlag.INIT_EXT;

/** Without SETXATTR_EXT and DONT_MASK the guest's ACLs would come out wrong: all three or none. */
const ACL_FLAGS = FuseInitFlag.POSIX_ACL | FuseInitFlag.DONT_MASK | FuseInitFlag.SETXATTR_EXT;

/** The INIT flags a file system wants, should the guest have them. */
export function wantedFlags(capabilities: Capabilities): bigint {
  const { readdirplus = 'never' } = capabilities;
  const optional: readonly (readonly [boolean | undefined, bigint])[] = [
    [capabilities.posixLocks, FuseInitFlag.POSIX_LOCKS],
    [capabilities.flockLocks, FuseInitFlag.FLOCK_LOCKS],
    [readdirplus !== 'never', FuseInitFlag.DO_READDIRPLUS],
    [readdirplus === 'auto', FuseInitFlag.READDIRPLUS_AUTO],
    [capabilities.writebackCache, FuseInitFlag.WRITEBACK_CACHE],
    [capabilities.killprivV2, FuseInitFlag.HANDLE_KILLPRIV_V2],
    [capabilities.posixAcl, ACL_FLAGS],
    [capabilities.securityContext, FuseInitFlag.SECURITY_CTX],
    [capabilities.submounts, FuseInitFlag.SUBMOUNTS],
    [capabilities.directIoMmap, FuseInitFlag.DIRECT_IO_ALLOW_MMAP],
    [capabilities.cacheSymlinks, FuseInitFlag.CACHE_SYMLINKS],
    [capabilities.supplementaryGroups, FuseInitFlag.CREATE_SUPP_GROUP],
    [capabilities.idmap, FuseInitFlag.ALLOW_IDMAP],
  ];
  return optional.reduce((flags, [isWanted, bits]) => (isWanted === true ? flags | bits : flags), ALWAYS);
}

/** Answer to an INIT: refused, answered but not mounted, or mounted. */
export type InitAnswer =
  | { readonly kind: 'refused'; readonly errno: number }
  | { readonly kind: 'otherMajor'; readonly reply: Uint8Array }
  | { readonly kind: 'mounted'; readonly reply: Uint8Array; readonly negotiated: Negotiated };

/**
 * Answers an INIT.
 *
 * @param octets what follows the header: 16 bytes before 7.36, 64 since
 */
export function negotiate(octets: Uint8Array, capabilities: Capabilities): InitAnswer {
  if (octets.length < INIT_IN_COMPAT_SIZE) return { kind: 'refused', errno: Errno.EINVAL };
  const padded = new Uint8Array(InitIn.size);
  padded.set(octets.subarray(0, InitIn.size));
  const asked = InitIn.decode(padded);
  if (asked.major > FUSE_KERNEL_VERSION) return { kind: 'otherMajor', reply: InitOut.encode(NOTHING) };
  if (asked.major < FUSE_KERNEL_VERSION || asked.minor < MIN_MINOR)
    return { kind: 'refused', errno: Errno.EPROTO };

  const hasMoreFlags = (BigInt(asked.flags) & FuseInitFlag.INIT_EXT) !== 0n && octets.length >= InitIn.size;
  const offered = BigInt(asked.flags) | (hasMoreFlags ? BigInt(asked.flags2) << 32n : 0n);
  let flags = offered & wantedFlags(capabilities);
  if ((flags & ACL_FLAGS) !== ACL_FLAGS) flags &= ~ACL_FLAGS;
  if (!hasMoreFlags) flags &= ~FuseInitFlag.INIT_EXT;
  const negotiated = {
    minor: Math.min(asked.minor, FUSE_KERNEL_MINOR_VERSION),
    flags,
    // Without MAX_PAGES the guest splits at 32 pages.
    maxWrite: (flags & FuseInitFlag.MAX_PAGES) === 0n ? 32 * PAGE_SIZE : MAX_TRANSFER,
    maxReadahead: Math.min(asked.maxReadahead, MAX_READAHEAD),
  };
  return { kind: 'mounted', reply: encodeReply(negotiated), negotiated };
}

const NOTHING: InitOut = {
  major: FUSE_KERNEL_VERSION,
  minor: FUSE_KERNEL_MINOR_VERSION,
  maxReadahead: 0,
  flags: 0,
  maxBackground: 0,
  congestionThreshold: 0,
  maxWrite: 0,
  timeGran: 0,
  maxPages: 0,
  mapAlignment: 0,
  flags2: 0,
  maxStackDepth: 0,
  requestTimeout: 0,
};

function encodeReply({ flags, maxWrite, maxReadahead }: Negotiated): Uint8Array {
  return InitOut.encode({
    ...NOTHING,
    maxReadahead,
    flags: Number(flags & 0xffff_ffffn),
    flags2: Number(flags >> 32n),
    maxBackground: MAX_BACKGROUND,
    congestionThreshold: CONGESTION_THRESHOLD,
    maxWrite,
    timeGran: 1,
    maxPages: (flags & FuseInitFlag.MAX_PAGES) === 0n ? 0 : maxWrite / PAGE_SIZE,
  });
}
