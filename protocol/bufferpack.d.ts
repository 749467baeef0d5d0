/** What `struct.ts` uses of bufferpack, which ships no types. */
declare module 'bufferpack' {
  const bufferpack: {
    /** Returns undefined when the buffer is too short. */
    unpack(format: string, buffer: Uint8Array, position: number): unknown[] | undefined;
    /** Returns false when the buffer is too short. */
    packTo(format: string, buffer: Uint8Array, position: number, values: readonly unknown[]): unknown;
  };
  export default bufferpack;
}
