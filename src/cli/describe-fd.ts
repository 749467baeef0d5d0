/** What a descriptor is, in the words of recordings, without disturbing it. */
import { fstatSync, readFileSync, readlinkSync, type BigIntStats } from 'node:fs';
import { hex } from '../units.ts';
import type { FdDescription } from '../vhost/conversation-record.ts';

const MEMFD = '/memfd:';
const DELETED = ' (deleted)';

/** @param fd borrowed */
export function describeFd(fd: number): FdDescription {
  let link: string;
  let stat: BigIntStats;
  try {
    link = readlinkSync(`/proc/self/fd/${fd}`);
    stat = fstatSync(fd, { bigint: true });
  } catch {
    return { kind: 'other' };
  }
  const ino = Number(stat.ino);
  if (link.startsWith(MEMFD)) {
    const name = link.slice(MEMFD.length).replace(DELETED, '');
    return { link, kind: 'memfd', name, size: hex(stat.size), ino };
  }
  if (link === 'anon_inode:[eventfd]') return { link, kind: 'eventfd', ...eventfdFields(fd) };
  if (stat.isSocket()) return { link, kind: 'socket', ino };
  if (stat.isFIFO()) return { link, kind: 'pipe', ino };
  if (stat.isFile()) return { link, kind: 'file', size: hex(stat.size), ino };
  return { link, kind: 'other' };
}

/** Which eventfd it is, and its counter, which the kernel shows in hexadecimal. */
function eventfdFields(fd: number): { readonly id?: number; readonly count?: number } {
  let text: string;
  try {
    text = readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8');
  } catch {
    return {};
  }
  const id = /^eventfd-id:\s*(\d+)/m.exec(text)?.[1];
  const count = /^eventfd-count:\s*([0-9a-f]+)/m.exec(text)?.[1];
  return {
    ...(id === undefined ? {} : { id: Number(id) }),
    ...(count === undefined ? {} : { count: Number.parseInt(count, 16) }),
  };
}
