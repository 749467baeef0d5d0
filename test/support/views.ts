/** Typed arrays over what `ringView` gives. */
export const wordsOf = ({ buffer, byteOffset, byteLength }: DataView<ArrayBuffer>): Uint32Array =>
  new Uint32Array(buffer, byteOffset, byteLength / 4);

export const octetsOf = ({ buffer, byteOffset, byteLength }: DataView<ArrayBuffer>): Uint8Array =>
  new Uint8Array(buffer, byteOffset, byteLength);
