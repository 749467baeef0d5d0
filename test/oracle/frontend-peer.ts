/** A back-end that plays a recorded one: it compares each message with the recorded one, and answers what was answered then. */
import { fstatSync, readFileSync } from 'node:fs';
import { HeaderFlag, VhostUserHeader } from '../../protocol/vhost-user.ts';
import {
  Log,
  MemoryTable,
  SingleRegion,
  U64,
  VringAddr,
  VringState,
  type MemoryRegionDescription,
} from '../../protocol/vhost-user-payloads.ts';
import { frontendRow } from '../../protocol/vhost-user-requests.ts';
import type { OwnedFd } from '../../src/host/owned-fd.ts';
import { fdKind } from '../../src/host/stat.ts';
import { MessageSocket } from '../../src/host/unix-socket.ts';
import { Connection, type Message } from '../../src/vhost/connection.ts';
import type { RecordedFd, RecordedFrame, RecordedMessage } from './frontend-recording.ts';

/** Ours and QEMU's are not the same. */
export class Difference extends Error {
  override readonly name: string = 'Difference';
}

/** We go on where the recording ends. */
export class Beyond extends Difference {
  override readonly name = 'Beyond';
}

export class RecordedPeer {
  readonly #peer: Connection;
  readonly #expected: readonly RecordedMessage[];
  readonly #frames: ReadonlyMap<number, RecordedFrame> | undefined;
  /** Ours for each of theirs: inodes of memory files, and eventfds that last. */
  readonly #files = new Map<number, number>();
  readonly #masked = new Map<number, string>();
  #count = 0;
  #hasClosed = false;

  constructor(
    socket: OwnedFd,
    expected: readonly RecordedMessage[],
    frames: ReadonlyMap<number, RecordedFrame> | undefined,
  ) {
    this.#peer = new Connection(new MessageSocket(socket));
    this.#expected = expected;
    this.#frames = frames;
  }

  /** The recorded back-end is gone by now. */
  get hasClosed(): boolean {
    return this.#hasClosed;
  }

  get received(): number {
    return this.#count;
  }

  /** Whether the message has come. */
  has(message: RecordedMessage): boolean {
    return this.#expected.indexOf(message) < this.#count;
  }

  /** The recorded message that should come next. */
  get next(): RecordedMessage | undefined {
    return this.#expected[this.#count];
  }

  /** Takes all that has been sent. @throws {Difference} */
  drain(): void {
    while (!this.#hasClosed) {
      const message = this.#peer.receive();
      if (message === 'wait' || message === 'closed') return;
      this.#take(message);
    }
  }

  close(): void {
    this.#peer.close();
  }

  #take(message: Message): void {
    const { request, flags, payload, fds } = message;
    const name = frontendRow(request)?.name ?? String(request);
    const expected = this.next;
    if (expected === undefined) throw new Beyond(`we send ${name}, QEMU nothing more`);
    const frame = this.#frames?.get(expected.n);
    const where = `message ${expected.n}`;
    if (name !== expected.name) throw new Difference(`${where}: we send ${name}, QEMU ${expected.name}`);
    if (frame === undefined) compareFields(where, expected, flags, payload);
    else {
      const header = VhostUserHeader.encode({ request, flags, size: payload.length });
      const hex = Buffer.concat([header, payload]).toString('hex');
      if (hex !== frame.hex) throw new Difference(`${where}: ${name} is ${hex}, QEMU's ${frame.hex}`);
      this.#compareFds(`${where}: ${name}`, expected, frame.fds, fds);
    }
    const kinds = fds.map(({ fd }) => kindOf(fd));
    for (const fd of fds) fd.close();
    if (String(kinds) !== String((expected.fds ?? []).map(anyFile)))
      throw new Difference(`${where}: ${name} carries ${String(kinds)}, QEMU's ${String(expected.fds)}`);
    this.#count += 1;
    this.#answer(request, expected, frame);
  }

  #answer(request: number, expected: RecordedMessage, frame: RecordedFrame | undefined): void {
    if (frame === undefined) {
      if (expected.reply !== undefined)
        this.#peer.send(request, HeaderFlag.REPLY | 1, encodeReply(expected.reply));
      else if (expected.need_reply) this.#hangUp();
      return;
    }
    for (const hex of frame.answers) {
      const octets = Buffer.from(hex, 'hex');
      const header = VhostUserHeader.decode(octets);
      this.#peer.send(header.request, header.flags, octets.subarray(VhostUserHeader.size));
    }
    if (frame.isLast) this.#hangUp();
  }

  #hangUp(): void {
    this.#hasClosed = true;
    this.#peer.close();
  }

  /** The same descriptor where QEMU sends the same: memory files always, eventfds as far as they live as long as the device. */
  #compareFds(
    where: string,
    { name, index = 0 }: RecordedMessage,
    theirs: readonly RecordedFd[],
    ours: readonly OwnedFd[],
  ): void {
    theirs.forEach(({ ino, id }, position) => {
      const fd = ours[position]?.fd;
      if (fd === undefined) return;
      if (ino !== undefined && /MEM/.test(name)) {
        const { ino: our } = fstatSync(fd);
        const known = this.#files.get(ino) ?? our;
        this.#files.set(ino, known);
        if (known !== our) throw new Difference(`${where}: another file than QEMU's`);
      }
      if (id !== undefined && name === 'SET_VRING_CALL') {
        const our = eventfdId(fd);
        const key = id * 0x100 + index;
        if (this.#masked.size <= index) this.#masked.set(key, our);
        const isTheirs = this.#masked.has(key);
        const isOurs = [...this.#masked.values()].includes(our);
        if (isTheirs !== isOurs) throw new Difference(`${where}: masked ${isOurs}, QEMU ${isTheirs}`);
      }
    });
  }
}

/** Kinds as the recording names them; any file is one. */
const kindOf = (fd: number): string => {
  const kind = fdKind(fd);
  return kind === 'fifo' ? 'pipe' : kind;
};
const anyFile = (kind: string): string => (/memfd|file|shm|huge/.test(kind) ? 'file' : kind);

const eventfdId = (fd: number): string =>
  /eventfd-id:\s*(\d+)/.exec(readFileSync(`/proc/self/fdinfo/${fd}`, 'utf8'))?.[1] ?? '';

function encodeReply(reply: NonNullable<RecordedMessage['reply']>): Uint8Array {
  if (typeof reply === 'string') return U64.encode(BigInt(reply));
  if ('index' in reply)
    return VringState.encode({ index: Number(reply['index']), num: Number(reply['num']) });
  return Log.encode({
    mmapSize: BigInt(reply['mmap_size'] ?? 0),
    mmapOffset: BigInt(reply['mmap_offset'] ?? 0),
  });
}

/** Where frames were not kept: what the event says of a message. */
function compareFields(where: string, expected: RecordedMessage, flags: number, payload: Uint8Array): void {
  const ours = fieldsOf(expected.name, payload);
  const needsReply = (flags & HeaderFlag.NEED_REPLY) !== 0;
  if (needsReply !== expected.need_reply) throw new Difference(`${where}: need_reply is ${needsReply}`);
  for (const [field, value] of Object.entries(ours)) {
    const theirs = JSON.stringify(expected[field as keyof RecordedMessage]);
    if (theirs !== JSON.stringify(value))
      throw new Difference(`${where}: ${field} is ${JSON.stringify(value)}, QEMU's ${theirs}`);
  }
}

const hexOf = (value: bigint): string => `0x${value.toString(16)}`;
const regionOf = (region: MemoryRegionDescription): Record<string, string> => ({
  guest_phys_addr: hexOf(region.guestPhysAddr),
  memory_size: hexOf(region.memorySize),
  userspace_addr: hexOf(region.userspaceAddr),
  mmap_offset: hexOf(region.mmapOffset),
});

function fieldsOf(name: string, payload: Uint8Array): Readonly<Record<string, unknown>> {
  if (/^(ADD|REM)_MEM_REG$/.test(name)) return { region: regionOf(SingleRegion.decode(payload).region) };
  if (name === 'SET_MEM_TABLE') return { regions: MemoryTable.decode(payload).regions.map(regionOf) };
  if (name === 'SET_LOG_BASE') return { mmap_size: hexOf(Log.decode(payload).mmapSize) };
  if (name === 'SET_VRING_ADDR') {
    const { index, flags, logGuestAddr } = VringAddr.decode(payload);
    return { index, flags, log_guest_addr: hexOf(logGuestAddr) };
  }
  if (/VRING_(NUM|BASE|ENABLE)$/.test(name)) {
    const { index, num } = VringState.decode(payload);
    return name.startsWith('GET') ? { index } : { index, num };
  }
  return payload.length === 8 && name !== 'SET_DEVICE_STATE_FD' ? { u64: hexOf(U64.decode(payload)) } : {};
}
