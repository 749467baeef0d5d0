/** Whether more threads want to run than the machine has processors for. */
import { cpus } from 'node:os';
import { AT_FDCWD, closeFile, O_RDONLY, openFile } from './files-open.ts';
import { readInto } from './files-io.ts';
import { NativeMemory } from './native-memory.ts';

const SPACE = 0x20;
const ZERO = 0x30;
const NINE = 0x39;
/** Fields before the one looked for: the averages of 1, 5 and 15 minutes. proc_loadavg(5). */
const AVERAGES = 3;
/** The whole line takes fewer octets. */
const TEXT_SIZE = 128;

const memory = NativeMemory.allocate(2 * TEXT_SIZE);
const path = memory.address + TEXT_SIZE;
memory.u8.set(Buffer.from('/proc/loadavg'), TEXT_SIZE);
/** 0 where the machine does not tell. */
const processors = cpus().length;

/**
 * @returns true if at this moment more threads, of whatever process, want to run than the machine has processors; false also
 *   where /proc does not tell. Costs a few microseconds
 */
export function areProcessorsShort(): boolean {
  const fd = openFile(AT_FDCWD, path, O_RDONLY, 0);
  if (fd < 0) return false;
  const size = readInto(fd, memory.address, TEXT_SIZE, 0);
  closeFile(fd);
  return isShort(runnableThreads(memory.u8, size), processors);
}

export function isShort(threads: number, of: number): boolean {
  return of > 0 && threads > of;
}

/**
 * @param text what /proc/loadavg says, `size` octets of it: `0.20 0.18 0.12 1/80 11206`
 * @returns the number before the slash; 0 if there is none
 */
export function runnableThreads(text: Uint8Array, size: number): number {
  let at = 0;
  for (let field = 0; field < AVERAGES && at < size; at += 1) if (text[at] === SPACE) field += 1;
  let threads = 0;
  for (; at < size && text[at]! >= ZERO && text[at]! <= NINE; at += 1)
    threads = 10 * threads + text[at]! - ZERO;
  return threads;
}
