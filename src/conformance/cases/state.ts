/** State that outlives the device: DEVICE_STATE for migration, inflight requests, shared memory regions. */
import { readSync, writeSync } from 'node:fs';
import { VHOST_USER_STATE_NOFD_MASK } from '../../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import { createPipe } from '../../host/pipe.ts';
import type { OwnedFd } from '../../host/owned-fd.ts';
import { fdSize } from '../../host/stat.ts';
import type { CaseNeeds, ConformanceCase } from '../case.ts';
import type { Link } from '../link.ts';
import type { Rig } from '../rig.ts';
import { check, died, failed, hungUp } from '../verdict.ts';

const STATE: CaseNeeds = { protocolFeatures: ['DEVICE_STATE'], device: ['fs', 'blk'] };
const SET_FD = {
  section: 'vhost-user § VHOST_USER_SET_DEVICE_STATE_FD',
  says: 'bits 0 to 7 of the answer are 0 on success, bit 8 says that no descriptor is returned',
};
const CHECK = {
  section: 'vhost-user § VHOST_USER_CHECK_DEVICE_STATE',
  says: 'says whether the back-end could process the state; 0 is success',
};
const INFLIGHT: CaseNeeds = { protocolFeatures: ['INFLIGHT_SHMFD', 'REPLY_ACK'] };
const SAVE = 0;
const LOAD = 1;
const MOST_STATE = 1 << 20;

interface StateAnswer {
  readonly status: number;
  /** The channel of the back-end, if it has brought one. */
  readonly fd: OwnedFd | undefined;
}

/** SET_DEVICE_STATE_FD. @param fd lent */
function setStateFd(link: Link, direction: number, fds: readonly number[]): StateAnswer {
  link.send(R.SET_DEVICE_STATE_FD, { direction, phase: 0 }, { fds });
  const arrival = link.receive();
  if (arrival.kind === 'closed') hungUp('SET_DEVICE_STATE_FD: the connection was closed');
  if (arrival.kind === 'silence') died(`SET_DEVICE_STATE_FD: no answer in ${arrival.afterMs} ms`);
  const value = Number(R.SET_DEVICE_STATE_FD.reply.decode(arrival.payload));
  const [fd, ...surplus] = arrival.fds;
  for (const each of surplus) each.close();
  const saysNone = (value & VHOST_USER_STATE_NOFD_MASK) !== 0;
  check(
    saysNone === (fd === undefined),
    `the answer is ${value} and ${arrival.fds.length} descriptors came with it`,
  );
  return { status: value & 0xff, fd };
}

/** The state of a device all of whose rings are stopped. */
function save(rig: Rig): Buffer {
  const { reader, writer } = createPipe();
  rig.own(reader);
  const { status, fd } = setStateFd(rig.link, SAVE, [rig.own(writer).fd]);
  writer.close();
  check(status === 0, `saving is refused: ${status}`);
  const state = readAll(rig, rig.own(fd ?? reader).fd);
  const outcome = rig.link.ask(R.CHECK_DEVICE_STATE, undefined);
  check(outcome === 0n, `CHECK_DEVICE_STATE after saving: ${outcome}`);
  return state;
}

/** @returns what CHECK_DEVICE_STATE answers, or the status of the refusal */
function load(rig: Rig, state: Buffer): bigint {
  const { reader, writer } = createPipe();
  const { status, fd } = setStateFd(rig.link, LOAD, [rig.own(reader).fd]);
  reader.close();
  rig.own(writer);
  if (status !== 0) {
    writer.close();
    return BigInt(status);
  }
  const channel = fd === undefined ? writer : rig.own(fd);
  if (state.length > 0) writeSync(channel.fd, state);
  channel.close();
  writer.close();
  return rig.link.ask(R.CHECK_DEVICE_STATE, undefined);
}

function readAll(rig: Rig, fd: number): Buffer {
  const pieces: Buffer[] = [];
  let total = 0;
  for (;;) {
    if (rig.clock.left() <= 0) died('the state does not end');
    rig.clock.wait(fd, rig.clock.timeoutMs);
    const piece = Buffer.alloc(0x1_0000);
    const count = readSync(fd, piece);
    if (count === 0) return Buffer.concat(pieces);
    pieces.push(piece.subarray(0, count));
    total += count;
    if (total > MOST_STATE) failed(`more than ${MOST_STATE} octets of state`);
  }
}

/** A device that has worked and is suspended. */
function suspend(rig: Rig): void {
  const guest = rig.startGuest();
  guest.request();
  guest.stopRings();
}

export const STATE_CASES: readonly ConformanceCase[] = [
  {
    id: 'state.save',
    title: 'A suspended device saves its state',
    level: 'must',
    spec: CHECK,
    expected: 'the state comes to its end, and CHECK_DEVICE_STATE answers 0',
    needs: STATE,
    run: (rig) => {
      suspend(rig);
      save(rig);
    },
  },
  {
    id: 'state.save-twice',
    title: 'State can be saved again: a migration that failed is tried once more',
    level: 'must',
    spec: {
      section: 'vhost-user § Migrating back-end state',
      says: 'if the migration fails, the source can resume operation until another attempt is made',
    },
    expected: 'both times CHECK_DEVICE_STATE answers 0',
    needs: STATE,
    run: (rig) => {
      suspend(rig);
      save(rig);
      save(rig);
    },
  },
  {
    id: 'state.load',
    title: 'State that was saved can be loaded into a new connection',
    level: 'must',
    spec: {
      section: 'vhost-user § Migrating back-end state',
      says: 'after the transfer, the destination resumes operation transparently',
    },
    expected: 'CHECK_DEVICE_STATE answers 0, and requests are answered without a new session of the device',
    needs: STATE,
    run: (rig) => {
      suspend(rig);
      const state = save(rig);
      rig.reconnect();
      const guest = rig.guest();
      guest.negotiate();
      guest.shareMemory();
      const outcome = load(rig, state);
      check(outcome === 0n, `loading what was saved: ${outcome}`);
      guest.startRings();
      guest.resumeSession();
      guest.request();
    },
  },
  {
    id: 'state.load-garbage',
    title: 'State that is none is reported',
    level: 'should',
    spec: CHECK,
    expected: 'CHECK_DEVICE_STATE answers non-zero, and the connection lives on',
    needs: STATE,
    run: (rig) => {
      rig.negotiate();
      const outcome = load(rig, Buffer.from('this is not the state of a device'.repeat(10)));
      check(outcome !== 0n, 'garbage was accepted');
    },
  },
  {
    id: 'state.direction',
    title: 'A direction that does not exist is refused',
    level: 'robustness',
    spec: SET_FD,
    expected: 'a status other than 0, no descriptor, and the connection lives on',
    needs: STATE,
    run: (rig) => {
      const { reader, writer } = createPipe();
      rig.own(reader);
      const { status } = setStateFd(rig.negotiate(), 7, [rig.own(writer).fd]);
      check(status !== 0, 'direction 7 was accepted');
    },
  },
  {
    id: 'state.no-descriptor',
    title: 'SET_DEVICE_STATE_FD without descriptor is answered',
    level: 'robustness',
    spec: SET_FD,
    expected: 'a status, and the connection lives on',
    needs: STATE,
    run: (rig) => setStateFd(rig.negotiate(), SAVE, []).fd?.close(),
  },
];

export const INFLIGHT_CASES: readonly ConformanceCase[] = [
  {
    id: 'inflight.get',
    title: 'GET_INFLIGHT_FD gives a buffer',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_INFLIGHT_FD',
      says: 'gets a shared buffer from the back-end, in which it tracks requests in flight',
    },
    expected: 'one descriptor, of a file that holds the area the answer names',
    needs: INFLIGHT,
    run: (rig) => {
      const { fd, area } = getInflight(rig, 1, 64);
      check(area.mmapSize > 0n, 'the area has no size');
      const size = BigInt(fdSize(fd.fd));
      check(size >= area.mmapOffset + area.mmapSize, `a file of ${size} bytes, the area ends behind it`);
    },
  },
  {
    id: 'inflight.set',
    title: 'The buffer can be given back, and requests are served',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_INFLIGHT_FD',
      says: 'sends the shared inflight buffer back to the back-end',
    },
    expected: 'accepted, and a good request is answered',
    needs: { ...INFLIGHT, device: ['fs', 'blk'] },
    run: (rig) => {
      const queues = Math.max(1, rig.device.queues);
      const guest = rig.guest();
      guest.negotiate();
      const { fd, area } = getInflight(rig, queues, guest.queues[0]!.driver.num);
      guest.link.accepts(R.SET_INFLIGHT_FD, area, { fds: [fd.fd] });
      guest.shareMemory();
      guest.startRings();
      for (let i = 0; i < 4; i += 1) guest.request();
    },
  },
  ...[
    { id: 'no-queues', numQueues: 0, queueSize: 64 },
    { id: 'many-queues', numQueues: 0xffff, queueSize: 0xffff },
  ].map(({ id, numQueues, queueSize }): ConformanceCase => ({
    id: `inflight.${id}`,
    title: `GET_INFLIGHT_FD of ${numQueues} rings with ${queueSize} entries does no harm`,
    level: 'robustness',
    spec: {
      section: 'vhost-user § Inflight description',
      says: 'a 16-bit number of virtqueues and a 16-bit size',
    },
    expected: 'an answer, and the connection lives on',
    needs: INFLIGHT,
    run: (rig) => {
      const link = rig.negotiate();
      link.send(R.GET_INFLIGHT_FD, { mmapSize: 0n, mmapOffset: 0n, numQueues, queueSize });
      link.expectReply('GET_INFLIGHT_FD');
    },
  })),
  {
    id: 'inflight.too-small',
    title: 'SET_INFLIGHT_FD with a file shorter than its area is refused',
    level: 'robustness',
    spec: {
      section: 'vhost-user § Inflight description',
      says: 'size and offset of the area in the descriptor',
    },
    expected: 'refused or ignored, and the connection lives on',
    needs: INFLIGHT,
    run: (rig) => {
      const link = rig.negotiate();
      const { fd } = rig.memory(0x1000);
      const area = { mmapSize: 1n << 30n, mmapOffset: 0n, numQueues: 1, queueSize: 64 };
      link.survives(R.SET_INFLIGHT_FD, area, { fds: [fd] });
    },
  },
];

export const SHMEM_CASES: readonly ConformanceCase[] = [
  {
    id: 'shmem.config',
    title: 'GET_SHMEM_CONFIG answers whole pages, the same each time',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_SHMEM_CONFIG',
      says: 'valid and unchanged for the lifetime of the connection; sizes are multiples of the page size',
    },
    expected: 'equal answers; sizes are multiples of 4096',
    needs: { protocolFeatures: ['SHMEM'] },
    run: (rig) => {
      const link = rig.negotiate({ protocolFeatures: rig.facts.protocolFeatures });
      const first = link.ask(R.GET_SHMEM_CONFIG, undefined);
      const second = link.ask(R.GET_SHMEM_CONFIG, undefined);
      check(
        first.memorySizes.every((size, i) => size === second.memorySizes[i]),
        'the sizes change',
      );
      const odd = first.memorySizes.find((size) => size % 4096n !== 0n);
      check(odd === undefined, `a region of ${odd} bytes`);
      const valid = first.memorySizes.filter((size) => size !== 0n).length;
      check(valid === first.nregions, `${valid} regions have a size, the answer says ${first.nregions}`);
    },
  },
];

interface InflightBuffer {
  readonly fd: OwnedFd;
  readonly area: {
    readonly mmapSize: bigint;
    readonly mmapOffset: bigint;
    readonly numQueues: number;
    readonly queueSize: number;
  };
}

function getInflight(rig: Rig, numQueues: number, queueSize: number): InflightBuffer {
  const link = rig.link.protocolFeatures === 0n ? rig.negotiate() : rig.link;
  link.send(R.GET_INFLIGHT_FD, { mmapSize: 0n, mmapOffset: 0n, numQueues, queueSize });
  const arrival = link.receive();
  if (arrival.kind === 'closed') hungUp('GET_INFLIGHT_FD: the connection was closed');
  if (arrival.kind === 'silence') died(`GET_INFLIGHT_FD: no answer in ${arrival.afterMs} ms`);
  for (const each of arrival.fds) rig.own(each);
  const [fd, ...surplus] = arrival.fds;
  check(fd !== undefined && surplus.length === 0, `${arrival.fds.length} descriptors came, expected 1`);
  return { fd, area: { ...R.GET_INFLIGHT_FD.reply.decode(arrival.payload), numQueues, queueSize } };
}
