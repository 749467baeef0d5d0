/** Unix stream sockets that carry file descriptors, which node:net would drop. unix(7). */
import { errnoName } from '../../protocol/errno.ts';
import { ControlMessage, CHUNK_SIZE, MAX_FDS } from './control-message.ts';
import { bind, errno } from './libc.ts';
import { NativeMemory } from './native-memory.ts';
import { OwnedFd } from './owned-fd.ts';

const socket = bind('socket', 'int', ['int', 'int', 'int']);
const bindTo = bind('bind', 'int', ['int', 'uintptr_t', 'uint32_t']);
const listen = bind('listen', 'int', ['int', 'int']);
const connect = bind('connect', 'int', ['int', 'uintptr_t', 'uint32_t']);
const accept4 = bind('accept4', 'int', ['int', 'uintptr_t', 'uintptr_t', 'int']);
const socketpair = bind('socketpair', 'int', ['int', 'int', 'int', 'uintptr_t']);
const chmod = bind('chmod', 'int', ['str', 'uint32_t']);
const chown = bind('chown', 'int', ['str', 'uint32_t', 'uint32_t']);
const recvmsg = bind('recvmsg', 'int64_t', ['int', 'uintptr_t', 'int']);
const sendmsg = bind('sendmsg', 'int64_t', ['int', 'uintptr_t', 'int']);
const poll = bind('poll', 'int', ['uintptr_t', 'uint64_t', 'int']);
const shutdown = bind('shutdown', 'int', ['int', 'int']);

const AF_UNIX = 1;
const SOCK_STREAM = 1;
const SOCK_NONBLOCK = 0o4000;
const SOCK_CLOEXEC = 0o2000000;
/** uid or gid that chown(2) leaves alone. */
const UNCHANGED = 0xffff_ffff;

const MSG_DONTWAIT = 0x40;
const MSG_NOSIGNAL = 0x4000;
const MSG_CMSG_CLOEXEC = 0x4000_0000;

const SHUT_WR = 1;

const POLLIN = 0x1;
const POLLOUT = 0x4;

const EINTR = 4;
const EBADF = 9;
const EAGAIN = 11;
const EINVAL = 22;
const ENAMETOOLONG = 36;
const EMSGSIZE = 90;
const ETIMEDOUT = 110;

/** `struct sockaddr_un`: u16 family, then the path with its NUL. */
const SUN_PATH = 2;
const SUN_PATH_SIZE = 108;
const SEND_TIMEOUT_MS = 5000;

const scratch = NativeMemory.allocate(4096);

interface ListenOptions {
  /** Connections the kernel keeps waiting. */
  readonly backlog: number;
  /** Permission bits of the socket's path; connecting needs write permission. */
  readonly mode?: number;
  /** Group of the socket's path. */
  readonly gid?: number;
}

/**
 * A listening socket at `path`, non-blocking. Nobody can connect before mode and group are set.
 *
 * @returns a descriptor the caller owns (and a path the caller unlinks), or −errno: EADDRINUSE if the path exists
 */
export function listenUnix(path: string, { backlog, mode, gid }: ListenOptions): number {
  const addressSize = encodeAddress(path);
  if (addressSize < 0) return addressSize;
  const created = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
  if (created < 0) return -errno();
  using fd = new OwnedFd(created);
  let result = bindTo(fd.fd, scratch.address, addressSize);
  if (result < 0) return -errno();
  if (mode !== undefined) result = chmod(path, mode);
  if (result < 0) return -errno();
  if (gid !== undefined) result = chown(path, UNCHANGED, gid);
  if (result < 0) return -errno();
  result = listen(fd.fd, backlog);
  if (result < 0) return -errno();
  return fd.release();
}

/** @returns a connected descriptor the caller owns, or −errno */
export function connectUnix(path: string): number {
  const addressSize = encodeAddress(path);
  if (addressSize < 0) return addressSize;
  const created = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
  if (created < 0) return -errno();
  using fd = new OwnedFd(created);
  const result = connect(fd.fd, scratch.address, addressSize);
  if (result < 0) return -errno();
  return fd.release();
}

/** @returns the next waiting connection, which the caller owns, or −errno: EAGAIN if there is none */
export function acceptUnix(fd: number): number {
  const result = accept4(fd, 0, 0, SOCK_CLOEXEC | SOCK_NONBLOCK);
  return result < 0 ? -errno() : result;
}

/** Two sockets connected to each other. @throws {RangeError} if the process is out of descriptors */
export function socketPair(): [OwnedFd, OwnedFd] {
  const result = socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, scratch.address);
  if (result < 0) throw new RangeError(`socketpair: ${errnoName(errno())}`);
  return [new OwnedFd(scratch.i32[0]!), new OwnedFd(scratch.i32[1]!)];
}

/** A connected stream socket that sends and receives bytes together with file descriptors. */
export class MessageSocket implements Disposable {
  readonly #socket: OwnedFd;
  readonly #incoming = new ControlMessage();
  readonly #outgoing = new ControlMessage();
  readonly #sendTimeoutMs: number;

  /** @param socket owned from here on */
  constructor(
    socket: OwnedFd,
    { sendTimeoutMs = SEND_TIMEOUT_MS }: { readonly sendTimeoutMs?: number } = {},
  ) {
    this.#socket = socket;
    this.#sendTimeoutMs = sendTimeoutMs;
  }

  /** The socket, lent, to wait on; −1 once closed. */
  get fd(): number {
    return this.#socket.fd;
  }

  /**
   * One recvmsg, without waiting, of up to `into.length` bytes (at most 8 KiB).
   *
   * Descriptors sent with a message arrive with the first of its bytes; a call that ends before them never sees them, and
   * one that begins before them may. So ask for no more than the rest of the message at hand.
   *
   * @param into at least one byte long
   * @param fds received descriptors are appended; the caller owns them
   * @returns bytes received; 0 if the peer has closed; −EAGAIN if nothing is there; −EMSGSIZE if descriptors were lost
   *   (too many, or none left in this process): those that came are closed, the bytes are gone, the stream is useless
   */
  receive(into: Uint8Array, fds: OwnedFd[]): number {
    if (into.length === 0)
      throw new RangeError('receive: no room, and 0 would mean that the peer has closed');
    if (this.#socket.isClosed) return 0;
    const message = this.#incoming;
    const size = Math.min(into.length, CHUNK_SIZE);
    let received: number;
    do {
      message.prepareReceive(size);
      received = recvmsg(this.#socket.fd, message.address, MSG_DONTWAIT | MSG_CMSG_CLOEXEC);
      if (received < 0) received = -errno();
    } while (received === -EINTR);
    if (received < 0) return received;
    const owned = fds.length;
    message.takeFds((fd) => fds.push(new OwnedFd(fd)));
    if (message.isTruncated) {
      for (const fd of fds.splice(owned)) fd.close();
      return -EMSGSIZE;
    }
    into.set(message.chunk.subarray(0, received));
    return received;
  }

  /**
   * Sends all of `bytes`, the descriptors with the first of them. Waits while the peer does not read, up to the timeout.
   *
   * @param fds borrowed
   * @returns `bytes.length` or −errno: EPIPE if the peer has closed, ETIMEDOUT if it did not read in time; after an
   *   error an unknown part has been sent
   */
  send(bytes: Uint8Array, fds: readonly number[]): number {
    if (bytes.length === 0 || fds.length > MAX_FDS) return -EINVAL;
    if (this.#socket.isClosed) return -EBADF;
    const deadline = performance.now() + this.#sendTimeoutMs;
    const message = this.#outgoing;
    let sent = 0;
    while (sent < bytes.length) {
      const size = Math.min(bytes.length - sent, CHUNK_SIZE);
      message.chunk.set(bytes.subarray(sent, sent + size));
      message.prepareSend(size, sent === 0 ? fds : []);
      let result = sendmsg(this.#socket.fd, message.address, MSG_DONTWAIT | MSG_NOSIGNAL);
      if (result < 0) result = -errno();
      if (result > 0) sent += result;
      else if (result === -EAGAIN) {
        if (!this.#waitWritable(deadline)) return -ETIMEDOUT;
      } else if (result !== -EINTR) return result;
    }
    return sent;
  }

  /**
   * One sendmsg, without waiting, of up to 8 KiB; the descriptors go with the first byte.
   *
   * @param fds borrowed
   * @returns bytes sent, or −errno, and then nothing was sent: EAGAIN if the peer has to read first, EPIPE if it has closed
   */
  sendSome(bytes: Uint8Array, fds: readonly number[]): number {
    if (bytes.length === 0 || fds.length > MAX_FDS) return -EINVAL;
    if (this.#socket.isClosed) return -EBADF;
    const message = this.#outgoing;
    const size = Math.min(bytes.length, CHUNK_SIZE);
    message.chunk.set(bytes.subarray(0, size));
    message.prepareSend(size, fds);
    for (;;) {
      const sent = sendmsg(this.#socket.fd, message.address, MSG_DONTWAIT | MSG_NOSIGNAL);
      const error = sent < 0 ? errno() : 0;
      if (error !== EINTR) return error === 0 ? sent : -error;
    }
  }

  /** Nothing will be sent any more, which the peer sees as the end; receiving goes on. @returns 0 or −errno */
  shutdownSend(): number {
    return shutdown(this.#socket.fd, SHUT_WR) < 0 ? -errno() : 0;
  }

  /**
   * Waits until there is something to receive, or the peer has closed.
   *
   * @param timeoutMs −1 waits for ever
   * @returns 1 if so, 0 if the time is over or a signal interrupted, or −errno
   */
  waitReadable(timeoutMs: number): number {
    return this.#poll(POLLIN, timeoutMs);
  }

  /** Idempotent. */
  close(): void {
    if (this.#socket.isClosed) return;
    this.#socket.close();
    this.#incoming[Symbol.dispose]();
    this.#outgoing[Symbol.dispose]();
  }

  [Symbol.dispose](): void {
    this.close();
  }

  /** @returns false if the deadline has passed; true also if it is worth another try for any other reason */
  #waitWritable(deadline: number): boolean {
    const left = Math.ceil(deadline - performance.now());
    if (left <= 0) return false;
    this.#poll(POLLOUT, left);
    return true;
  }

  #poll(events: number, timeoutMs: number): number {
    scratch.i32[0] = this.#socket.fd;
    scratch.u32[1] = events; // struct pollfd: i32 fd, i16 events, i16 revents
    const result = poll(scratch.address, 1, timeoutMs);
    if (result >= 0) return result;
    const error = errno();
    return error === EINTR ? 0 : -error;
  }
}

/** Writes a `sockaddr_un` to the scratch memory. @returns its size, or −ENAMETOOLONG */
function encodeAddress(path: string): number {
  const octets = Buffer.from(path);
  if (octets.length >= SUN_PATH_SIZE) return -ENAMETOOLONG;
  scratch.u8.fill(0, 0, SUN_PATH + SUN_PATH_SIZE);
  scratch.u16[0] = AF_UNIX;
  scratch.u8.set(octets, SUN_PATH);
  return SUN_PATH + octets.length + 1;
}
