/**
 * Has V8 make machine code of what serves requests sooner than of other programs, and of more functions at once.
 *
 * V8 waits until a function has executed so many bytes of bytecode, several times over: a guest's first ten thousand
 * requests, and a few hundred additions of memory, would be interpreted, each at several times the cost. We run the same
 * few functions for as long as we live.
 *
 * It also stops copying functions into their caller after a kilobyte of bytecode. A request goes through two dozen small
 * ones, from descriptor to system call, which are called from nowhere else: a call of each costs more than what it does.
 *
 * All of this is the whole process's.
 */
import { setFlagsFromString } from 'node:v8';

/** Bytes; V8's own is 66 KiB in Node 20. */
const BUDGET = 2048;
const USUAL_BUDGET = 67_584;
/** Bytes of bytecode of one function to be copied, of all of them together, and with the tiny ones. V8's are 460, 920, 4600. */
const INLINED = 2000;
const INLINED_TOGETHER = 8000;
const INLINED_AT_MOST = 40_000;

/** To be called when a thread is about to serve. */
export function compileSoon(): void {
  setFlagsFromString(`--interrupt-budget=${BUDGET}`);
  setFlagsFromString(`--max-inlined-bytecode-size=${INLINED}`);
  setFlagsFromString(`--max-inlined-bytecode-size-cumulative=${INLINED_TOGETHER}`);
  setFlagsFromString(`--max-inlined-bytecode-size-absolute=${INLINED_AT_MOST}`);
}

/** To be called when another thread is about to start: what that takes is not worth compiling, it would take three times as long. */
export function compileAsUsual(): void {
  setFlagsFromString(`--interrupt-budget=${USUAL_BUDGET}`);
}
