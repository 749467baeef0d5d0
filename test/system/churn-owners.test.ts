/** Users that create files on two queues at the same time: each thread has an identity of its own, and each file the owner it must have. */
import { chmodSync, chownSync, lstatSync, mkdirSync, readdirSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { EntryOut, OpenOut } from '../../protocol/fuse-attributes.ts';
import { ExtHeader, SuppGroups } from '../../protocol/fuse-extensions.ts';
import { FuseExtType, FuseInitFlag } from '../../protocol/fuse-flags.ts';
import { CreateIn, InitIn, InitOut, MkdirIn, MknodIn } from '../../protocol/fuse-requests.ts';
import { FuseOpcode, InHeader, OutHeader } from '../../protocol/fuse.ts';
import { LoopbackMachine } from '../../src/machine/loopback-machine.ts';
import { RequestChannel, type SentRequest } from '../../src/machine/request-channel.ts';
import { expectAnswer, ROOT, VirtioFsClient } from '../../src/machine/virtio-fs-client.ts';
import { Random } from '../../src/stress/random.ts';
import { MiB } from '../../src/units.ts';
import { Daemon } from '../support/daemon.ts';

const QUEUES = 2;
const DEPTH = 12;
const ROUNDS = Number(process.env['CHURN_CREATIONS'] ?? 960) / (QUEUES * DEPTH);
const O_RDWR = 2;
const S_IFIFO = 0o010000;
/** The group of the shared directory, which some users are in. */
const SHARED_GROUP = 7000;
const KINDS = ['file', 'directory', 'fifo', 'link'] as const;
const MODES = [0o644, 0o600, 0o777, 0o2755, 0o4755, 0o6777] as const;
const UMASKS = [0, 0o022, 0o027, 0o077] as const;

interface Creation {
  readonly name: string;
  readonly kind: (typeof KINDS)[number];
  readonly parent: 'plain' | 'shared';
  readonly uid: number;
  readonly gid: number;
  /** The user is in the group of the shared directory, and the request says so. */
  readonly isMember: boolean;
  readonly mode: number;
  readonly umask: number;
}

const isRoot = process.geteuid?.() === 0;

test.skipIf(!isRoot)('each file has the owner, group and mode of whom it was created for', async () => {
  await using daemon = await Daemon.start({
    name: 'churn-owners',
    logLevel: 'warn',
    flags: [`--num-request-queues=${QUEUES}`],
  });
  for (const name of ['plain', 'shared']) mkdirSync(join(daemon.sharedDir, name));
  chmodSync(join(daemon.sharedDir, 'plain'), 0o777);
  chownSync(join(daemon.sharedDir, 'shared'), 0, SHARED_GROUP);
  chmodSync(join(daemon.sharedDir, 'shared'), 0o2777);
  using machine = LoopbackMachine.start({
    socket: daemon.socketPath,
    baseSize: 8 * MiB,
    slotSize: MiB,
    slots: 0,
    requestQueues: QUEUES,
  });
  const channels = machine.queues
    .slice(1)
    .map(
      (queue) => new RequestChannel(queue, { depth: DEPTH, allocate: (size) => machine.ram.allocate(size) }),
    );
  mount(channels[0]!);
  const clients = channels.map((_, i) => new VirtioFsClient(machine, 1 + i));
  const parents = {
    plain: expectAnswer(clients[0]!.lookup(ROOT, 'plain'), 'LOOKUP').nodeid,
    shared: expectAnswer(clients[0]!.lookup(ROOT, 'shared'), 'LOOKUP').nodeid,
  };

  const random = new Random(11);
  const creations: Creation[] = [];
  for (let round = 0; round < ROUNDS; round += 1) {
    const sent: [RequestChannel, SentRequest][] = [];
    for (let i = 0; i < DEPTH; i += 1)
      for (const [queue, channel] of channels.entries()) {
        const creation = draw(random, `${round}-${i}-${queue}`, queue);
        creations.push(creation);
        sent.push([channel, send(channel, creation, parents[creation.parent])]);
      }
    for (const [channel, request] of sent) {
      channel.finish(request);
      expect(OutHeader.decode(request.answer).error).toBe(0);
    }
  }

  for (const creation of creations) {
    const { uid, gid, mode } = lstatSync(join(daemon.sharedDir, creation.parent, creation.name));
    const found = { uid, gid, mode: creation.kind === 'link' ? 0 : mode & 0o7777 };
    expect({ ...creation, found }).toEqual({ ...creation, found: expected(creation) });
  }
  const names = ['plain', 'shared'].flatMap((name) => readdirSync(join(daemon.sharedDir, name)));
  expect(names).toHaveLength(creations.length);
  expect(expectAnswer(clients[1]!.getattr(parents.plain), 'GETATTR').attr.uid).toBe(0);
});

/** With the umask and one group left to us. */
function mount(channel: RequestChannel): void {
  const flags =
    FuseInitFlag.INIT_EXT |
    FuseInitFlag.DONT_MASK |
    FuseInitFlag.CREATE_SUPP_GROUP |
    FuseInitFlag.POSIX_ACL |
    FuseInitFlag.SETXATTR_EXT;
  const argument = InitIn.encode({
    major: 7,
    minor: 41,
    maxReadahead: 1 << 20,
    flags: Number(flags & 0xffff_ffffn),
    flags2: Number(flags >> 32n),
  });
  const request = channel.start({
    head: [header(FuseOpcode.INIT, 0n, argument.length, 0, 0, 0), argument],
    fixedSize: OutHeader.size + InitOut.size,
  });
  channel.finish(request);
  const { flags: agreed, flags2 } = InitOut.decode(request.answer, OutHeader.size);
  expect((BigInt(flags2) << 32n) | BigInt(agreed >>> 0)).toSatisfy(
    (mask: bigint) =>
      (mask & FuseInitFlag.CREATE_SUPP_GROUP) !== 0n && (mask & FuseInitFlag.DONT_MASK) !== 0n,
  );
}

/** Users of one queue are never users of the other. */
function draw(random: Random, name: string, queue: number): Creation {
  const user = random.below(4);
  return {
    name,
    kind: random.pick(KINDS),
    parent: random.pick(['plain', 'shared']),
    uid: user === 0 ? 0 : 1000 * (queue + 1) + user,
    gid: user === 0 ? 0 : 3000 * (queue + 1) + user,
    isMember: random.below(2) === 0,
    mode: random.pick(MODES),
    umask: random.pick(UMASKS),
  };
}

/** By inode_init_owner() and mode_strip_sgid() of Linux. */
function expected({ kind, parent, uid, gid, isMember, mode, umask }: Creation): object {
  const isShared = parent === 'shared';
  const group = isShared ? SHARED_GROUP : gid;
  if (kind === 'link') return { uid, gid: group, mode: 0 };
  let bits = mode & ~umask;
  const isStripped = isShared && (mode & 0o2010) === 0o2010 && !isMember && uid !== 0;
  if (kind === 'directory') bits = (bits & ~0o7000) | (mode & 0o1000) | (isShared ? 0o2000 : 0);
  else if (isStripped) bits &= ~0o2000;
  return { uid, gid: group, mode: bits };
}

function send(channel: RequestChannel, creation: Creation, parent: bigint): SentRequest {
  const { kind, name, mode, umask, uid, gid, isMember } = creation;
  const names = kind === 'link' ? Buffer.from(`${name}\0target\0`) : Buffer.from(`${name}\0`);
  const [opcode, argument] = {
    file: [FuseOpcode.CREATE, CreateIn.encode({ flags: O_RDWR, mode, umask, openFlags: 0 })],
    directory: [FuseOpcode.MKDIR, MkdirIn.encode({ mode, umask })],
    fifo: [FuseOpcode.MKNOD, MknodIn.encode({ mode: S_IFIFO | mode, rdev: 0, umask })],
    link: [FuseOpcode.SYMLINK, new Uint8Array(0)],
  }[kind] as [FuseOpcode, Uint8Array];
  const group = isMember ? groupExtension() : new Uint8Array(0);
  const size = argument.length + names.length + group.length;
  return channel.start({
    head: [header(opcode, parent, size, uid, gid, group.length), argument, names, group],
    fixedSize: OutHeader.size + EntryOut.size + (kind === 'file' ? OpenOut.size : 0),
  });
}

function groupExtension(): Uint8Array {
  const gid = Buffer.alloc(4);
  gid.writeUInt32LE(SHARED_GROUP);
  const size = ExtHeader.size + SuppGroups.size + gid.length;
  return Buffer.concat([
    ExtHeader.encode({ size, type: FuseExtType.GROUPS }),
    SuppGroups.encode({ nrGroups: 1 }),
    gid,
  ]);
}

let unique = 0n;

const header = (
  opcode: FuseOpcode,
  nodeid: bigint,
  size: number,
  uid: number,
  gid: number,
  extensions: number,
): Uint8Array =>
  InHeader.encode({
    len: InHeader.size + size,
    opcode,
    unique: (unique += 2n),
    nodeid,
    uid,
    gid,
    pid: 1,
    totalExtlen: extensions / 8,
  });
