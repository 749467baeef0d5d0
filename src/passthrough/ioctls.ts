/**
 * The ioctls that make sense for a file of another machine: inode flags (chattr, lsattr) and extended ones (projects).
 * Anything else is none that this file knows.
 */
import { Errno } from '../../protocol/errno.ts';
import { IoctlIn, IoctlOut } from '../../protocol/fuse-requests.ts';
import type { FuseRequest } from '../fuse/request.ts';
import { controlFile } from '../host/files-io.ts';
import type { Share } from './share.ts';

/** linux/fs.h: command → octets of its argument, and whether they go in or out. */
const COMMANDS: ReadonlyMap<number, { readonly size: number; readonly isInput: boolean }> = new Map([
  [0x8008_6601, { size: 4, isInput: false }], // FS_IOC_GETFLAGS: says long, moves an int
  [0x4008_6602, { size: 4, isInput: true }], // FS_IOC_SETFLAGS
  [0x801c_581f, { size: 28, isInput: false }], // FS_IOC_FSGETXATTR: struct fsxattr
  [0x401c_5820, { size: 28, isInput: true }], // FS_IOC_FSSETXATTR
]);

export function ioctl(share: Share, request: FuseRequest): number {
  const row = share.handles.find(request.u64(IoctlIn.offset.fh));
  if (row < 0) return -Errno.EBADF;
  const number = request.u32(IoctlIn.offset.cmd);
  const command = COMMANDS.get(number);
  if (command === undefined) return -Errno.ENOTTY;
  const outSize = command.isInput ? 0 : command.size;
  if (command.isInput ? request.valueSize < command.size : request.u32(IoctlIn.offset.outSize) < command.size)
    return -Errno.EINVAL;
  if (request.replyRoom < IoctlOut.size + outSize) return -Errno.EINVAL;

  const words = request.reply.u32;
  words.fill(0, 0, (IoctlOut.size + command.size) / 4);
  const argument = command.isInput
    ? copyInput(share, request, command.size)
    : request.reply.address + IoctlOut.size;
  const result = controlFile(share.handles.fd[row]!, number, argument);
  if (result < 0) return result;
  words[0] = result; // and no flags, no iovecs: what goes out was asked for
  return IoctlOut.size + outSize;
}

/** Not where the request lies: what the kernel reads is then surely no more than was sent. */
function copyInput(share: Share, request: FuseRequest, size: number): number {
  const start = request.valueAddress - request.input.address;
  const to = share.scratch.u8;
  for (let i = 0; i < size; i += 1) to[i] = request.input.u8[start + i]!;
  return share.scratch.address;
}
