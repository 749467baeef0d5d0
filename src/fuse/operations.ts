/**
 * The table of FUSE operations: a row says how a request is decoded, which method serves it, and what room its reply
 * needs. An opcode without a row is answered ENOSYS.
 *
 * INIT, DESTROY, FORGET, BATCH_FORGET and INTERRUPT are the server's own (`server.ts`). SETUPMAPPING and REMOVEMAPPING
 * need a DAX window, which we do not have. NOTIFY_REPLY answers a RETRIEVE, which we do not send.
 */
import { AttrOut, EntryOut, OpenOut, StatxOut } from '../../protocol/fuse-attributes.ts';
import * as wire from '../../protocol/fuse-requests.ts';
import { FuseOpcode } from '../../protocol/fuse.ts';
import type { Operations } from './file-system.ts';

/**
 * Which rules a name is checked by: an entry of a directory, a symlink's target, an extended attribute's name, or none
 * (Linux names a TMPFILE "/", which no file system should look at).
 */
export type NameKind = 'entry' | 'target' | 'xattr' | 'ignored';

/** What follows the fixed arguments and the names. */
export type Trailer =
  | 'none'
  | 'extensions' // security context and supplementary groups
  | 'value' // octets copied into scratch
  | 'data'; // octets left in guest memory (WRITE)

export interface OperationRow {
  readonly method: keyof Operations;
  /** Bytes of the fixed arguments as the method sees them. */
  readonly argSize: number;
  /** Bytes of them on the wire when the guest sends an older, shorter form; the rest is 0. */
  readonly wireSize: number;
  readonly names: readonly NameKind[];
  readonly trailer: Trailer;
  /** Where in the arguments the count of a 'value' or 'data' is, in bytes. */
  readonly valueSizeAt: number;
  /** Bytes of payload the guest must have room for before anything is done. */
  readonly replySize: number;
}

interface Sized {
  readonly size: number;
}
const NOTHING: Sized = { size: 0 };

function row(
  method: keyof Operations,
  arg: Sized,
  replySize: number,
  more: Partial<Pick<OperationRow, 'names' | 'trailer' | 'wireSize' | 'valueSizeAt'>> = {},
): OperationRow {
  return {
    method,
    argSize: arg.size,
    wireSize: arg.size,
    names: [],
    trailer: 'none',
    valueSizeAt: 0,
    replySize,
    ...more,
  };
}

const ENTRY = { names: ['entry'] } as const;
const TWO_ENTRIES = ['entry', 'entry'] as const;
const CREATING = { names: ['entry'], trailer: 'extensions' } as const;
const CREATED = EntryOut.size + OpenOut.size;

export const OPERATIONS: { readonly [opcode in FuseOpcode]?: OperationRow } = {
  [FuseOpcode.LOOKUP]: row('lookup', NOTHING, EntryOut.size, ENTRY),
  [FuseOpcode.GETATTR]: row('getattr', wire.GetattrIn, AttrOut.size),
  [FuseOpcode.SETATTR]: row('setattr', wire.SetattrIn, AttrOut.size),
  [FuseOpcode.READLINK]: row('readlink', NOTHING, 0),
  [FuseOpcode.SYMLINK]: row('symlink', NOTHING, EntryOut.size, {
    names: ['entry', 'target'],
    trailer: 'extensions',
  }),
  [FuseOpcode.MKNOD]: row('mknod', wire.MknodIn, EntryOut.size, CREATING),
  [FuseOpcode.MKDIR]: row('mkdir', wire.MkdirIn, EntryOut.size, CREATING),
  [FuseOpcode.UNLINK]: row('unlink', NOTHING, 0, ENTRY),
  [FuseOpcode.RMDIR]: row('rmdir', NOTHING, 0, ENTRY),
  [FuseOpcode.RENAME]: row('rename', wire.Rename2In, 0, { names: TWO_ENTRIES, wireSize: wire.RenameIn.size }),
  [FuseOpcode.LINK]: row('link', wire.LinkIn, EntryOut.size, ENTRY),
  [FuseOpcode.OPEN]: row('open', wire.OpenIn, OpenOut.size),
  [FuseOpcode.READ]: row('read', wire.ReadIn, 0),
  [FuseOpcode.WRITE]: row('write', wire.WriteIn, wire.WriteOut.size, {
    trailer: 'data',
    valueSizeAt: wire.WriteIn.offset.size,
  }),
  [FuseOpcode.STATFS]: row('statfs', NOTHING, wire.StatfsOut.size),
  [FuseOpcode.RELEASE]: row('release', wire.ReleaseIn, 0),
  [FuseOpcode.FSYNC]: row('fsync', wire.FsyncIn, 0),
  [FuseOpcode.SETXATTR]: row('setxattr', wire.SetxattrIn, 0, {
    names: ['xattr'],
    trailer: 'value',
    valueSizeAt: wire.SetxattrIn.offset.size,
    wireSize: wire.SetxattrInCompat.size, // until SETXATTR_EXT is negotiated
  }),
  [FuseOpcode.GETXATTR]: row('getxattr', wire.GetxattrIn, 0, { names: ['xattr'] }),
  [FuseOpcode.LISTXATTR]: row('listxattr', wire.GetxattrIn, 0),
  [FuseOpcode.REMOVEXATTR]: row('removexattr', NOTHING, 0, { names: ['xattr'] }),
  [FuseOpcode.FLUSH]: row('flush', wire.FlushIn, 0),
  [FuseOpcode.OPENDIR]: row('opendir', wire.OpenIn, OpenOut.size),
  [FuseOpcode.READDIR]: row('readdir', wire.ReadIn, 0),
  [FuseOpcode.RELEASEDIR]: row('releasedir', wire.ReleaseIn, 0),
  [FuseOpcode.FSYNCDIR]: row('fsyncdir', wire.FsyncIn, 0),
  [FuseOpcode.GETLK]: row('getlk', wire.LkIn, wire.LkOut.size),
  [FuseOpcode.SETLK]: row('setlk', wire.LkIn, 0),
  [FuseOpcode.SETLKW]: row('setlk', wire.LkIn, 0),
  [FuseOpcode.ACCESS]: row('access', wire.AccessIn, 0),
  [FuseOpcode.CREATE]: row('create', wire.CreateIn, CREATED, CREATING),
  [FuseOpcode.BMAP]: row('bmap', wire.BmapIn, wire.BmapOut.size),
  [FuseOpcode.IOCTL]: row('ioctl', wire.IoctlIn, wire.IoctlOut.size, {
    trailer: 'value',
    valueSizeAt: wire.IoctlIn.offset.inSize,
  }),
  [FuseOpcode.POLL]: row('poll', wire.PollIn, wire.PollOut.size),
  [FuseOpcode.FALLOCATE]: row('fallocate', wire.FallocateIn, 0),
  [FuseOpcode.READDIRPLUS]: row('readdirplus', wire.ReadIn, 0),
  [FuseOpcode.RENAME2]: row('rename', wire.Rename2In, 0, { names: TWO_ENTRIES }),
  [FuseOpcode.LSEEK]: row('lseek', wire.LseekIn, wire.LseekOut.size),
  [FuseOpcode.COPY_FILE_RANGE]: row('copyFileRange', wire.CopyFileRangeIn, wire.WriteOut.size),
  [FuseOpcode.SYNCFS]: row('syncfs', wire.SyncfsIn, 0),
  [FuseOpcode.TMPFILE]: row('tmpfile', wire.CreateIn, CREATED, { names: ['ignored'], trailer: 'extensions' }),
  [FuseOpcode.STATX]: row('statx', wire.StatxIn, StatxOut.size),
  [FuseOpcode.COPY_FILE_RANGE_64]: row('copyFileRange', wire.CopyFileRangeIn, wire.CopyFileRangeOut.size),
};
