/**
 * Words that one thread writes and another reads without the lock.
 *
 * V8 performs plain loads and stores of typed arrays as they are written, in their order; so does x86, but for a load
 * after a store of another word. Atomics are calls of some 15 ns in V8 of Node 20: they are made where order takes it.
 */

const KEEPS_ORDER = process.arch === 'x64';

/** Loads a word; no later load or store is done before. */
export function loadOrdered(words: Int32Array, index: number): number {
  return KEEPS_ORDER ? words[index]! : Atomics.load(words, index);
}

/** Stores a word; no earlier load or store is done after. */
export function storeOrdered(words: Int32Array, index: number, value: number): void {
  if (KEEPS_ORDER) words[index] = value;
  else Atomics.store(words, index, value);
}

/** Stores a word that others see before any later load of this thread is done. */
export function storeFenced(isShared: boolean, words: Int32Array, index: number, value: number): void {
  if (isShared) Atomics.store(words, index, value);
  else words[index] = value;
}
