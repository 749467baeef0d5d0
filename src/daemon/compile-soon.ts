/**
 * Has V8 make machine code of what serves requests sooner than of other programs.
 *
 * V8 waits until a function has executed so many bytes of bytecode, several times over: a guest's first ten thousand
 * requests would be interpreted, each at several times the cost. We run the same few functions for as long as we live.
 */
import { setFlagsFromString } from 'node:v8';

/** Bytes; V8's own is 132 KiB. */
const BUDGET = 16384;

/** To be called when a thread is about to serve: what it took to start up is not worth it. */
export function compileSoon(): void {
  setFlagsFromString(`--interrupt-budget=${BUDGET}`);
}
