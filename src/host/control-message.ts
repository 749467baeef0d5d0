/**
 * `struct msghdr` of one message with file descriptors, laid out once in native memory and used for every call.
 * recv(2), unix(7), cmsg(3); 64-bit Linux, little-endian.
 */
import { NativeMemory, setU64 } from './native-memory.ts';

/** SCM_MAX_FD: what the kernel lets pass in one message. */
export const MAX_FDS = 253;
/** Bytes moved by one call; longer messages take several. */
export const CHUNK_SIZE = 8192;

// Offsets in the one block of memory.
const MSGHDR = 0;
const IOVEC = 64;
const CONTROL = 128;
const CHUNK = 4096;

// Words of struct msghdr, from its start.
const MSG_IOV = 4;
const MSG_IOVLEN = 6;
const MSG_CONTROL = 8;
const MSG_CONTROLLEN = 10;
const MSG_FLAGS = 12;

// struct cmsghdr: u64 cmsg_len (header included), i32 cmsg_level, i32 cmsg_type, then the data, padded to 8.
const CMSG_HEADER = 16;
const CMSG_LEVEL = 2;
const CMSG_TYPE = 3;
const CONTROL_SIZE = CMSG_HEADER + 8 * Math.ceil((MAX_FDS * 4) / 8);

const SOL_SOCKET = 1;
const SCM_RIGHTS = 1;
const MSG_CTRUNC = 0x8;

/** One message header, one iovec, room for `MAX_FDS` descriptors and for `CHUNK_SIZE` bytes. */
export class ControlMessage implements Disposable {
  readonly #memory = NativeMemory.allocate(CHUNK + CHUNK_SIZE);
  /** The bytes to send, or received. */
  readonly chunk = this.#memory.u8.subarray(CHUNK, CHUNK + CHUNK_SIZE);
  /** Address of the `struct msghdr`. */
  readonly address = this.#memory.address + MSGHDR;

  constructor() {
    const words = this.#memory.u32;
    setU64(words, IOVEC / 4, this.#memory.address + CHUNK);
    setU64(words, MSG_IOV, this.#memory.address + IOVEC);
    setU64(words, MSG_IOVLEN, 1);
  }

  /** Makes it ready for recvmsg of up to `size` bytes and any number of descriptors. */
  prepareReceive(size: number): void {
    this.#prepare(size, CONTROL_SIZE);
  }

  /** Makes it ready for sendmsg of `size` bytes of `chunk`. @param fds at most `MAX_FDS`, borrowed */
  prepareSend(size: number, fds: readonly number[]): void {
    if (fds.length === 0) {
      this.#prepare(size, 0);
      return;
    }
    const used = CMSG_HEADER + 4 * fds.length;
    this.#prepare(size, 8 * Math.ceil(used / 8));
    const words = this.#memory.u32;
    setU64(words, CONTROL / 4, used);
    words[CONTROL / 4 + CMSG_LEVEL] = SOL_SOCKET;
    words[CONTROL / 4 + CMSG_TYPE] = SCM_RIGHTS;
    for (let i = 0; i < fds.length; i++) this.#memory.i32[(CONTROL + CMSG_HEADER) / 4 + i] = fds[i]!;
  }

  /** After recvmsg: descriptors were lost, because there were too many or this process may not have more. */
  get isTruncated(): boolean {
    return (this.#memory.u32[MSG_FLAGS]! & MSG_CTRUNC) !== 0;
  }

  /** After recvmsg: hands each received descriptor, which somebody must own now, to `take`. */
  takeFds(take: (fd: number) => void): void {
    const { u32, i32 } = this.#memory;
    const end = CONTROL + u32[MSG_CONTROLLEN]!;
    let at = CONTROL;
    while (at + CMSG_HEADER <= end) {
      const length = u32[at / 4]!;
      if (length < CMSG_HEADER) return;
      if (u32[at / 4 + CMSG_LEVEL] === SOL_SOCKET && u32[at / 4 + CMSG_TYPE] === SCM_RIGHTS) {
        const dataEnd = Math.min(at + length, end);
        for (let fdAt = at + CMSG_HEADER; fdAt + 4 <= dataEnd; fdAt += 4) take(i32[fdAt / 4]!);
      }
      at += 8 * Math.ceil(length / 8);
    }
  }

  [Symbol.dispose](): void {
    this.#memory.unmap();
  }

  #prepare(size: number, controlSize: number): void {
    const words = this.#memory.u32;
    setU64(words, IOVEC / 4 + 2, size);
    setU64(words, MSG_CONTROL, controlSize === 0 ? 0 : this.#memory.address + CONTROL);
    setU64(words, MSG_CONTROLLEN, controlSize);
    words[MSG_FLAGS] = 0;
  }
}
