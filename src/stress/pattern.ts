/** The octets of a chunk follow from its number and version, so whatever comes back can be checked without a copy. */

/** What a buffer is filled with before something is read into it. */
export const BLOT = 0xa5;

export class Pattern {
  readonly #words: Uint32Array;
  readonly #bytes: Uint8Array;

  /** @param size bytes; a multiple of 4 */
  constructor(size: number) {
    this.#words = new Uint32Array(size / 4);
    this.#bytes = new Uint8Array(this.#words.buffer);
  }

  /** Octets no other chunk or version has; valid until the next call. */
  of(chunk: number, version: number): Uint8Array {
    let state = (Math.imul(chunk + 1, 0x9e37_79b1) ^ Math.imul(version + 1, 0x85eb_ca6b)) | 1;
    for (let i = 0; i < this.#words.length; i += 1) {
      state ^= state << 13;
      state ^= state >>> 17;
      state ^= state << 5;
      this.#words[i] = state;
    }
    return this.#bytes;
  }
}

/** @returns what is wrong with octets that were read; undefined if they are as expected */
export function difference(actual: Uint8Array, expected: Uint8Array): string | undefined {
  if (Buffer.compare(actual, expected) === 0) return undefined;
  const wrong = actual.reduce((count, octet, at) => count + (octet === expected[at] ? 0 : 1), 0);
  const isUntouched = actual.every((octet) => octet === BLOT);
  return isUntouched
    ? 'the buffer was not written to, though the request succeeded'
    : `${wrong} of ${actual.length} octets are not what was written last`;
}
