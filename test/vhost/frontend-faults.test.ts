/**
 * Back-ends that misbehave, as recorded with QEMU: ours never hangs, never takes one answer for another, and memory goes on without the
 * back-end if it must. docs/faults.md is what comes out: `FAULTS=write` writes it anew.
 */
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import fc from 'fast-check';
import { afterAll, describe, expect, test } from 'vitest';
import { ProtocolError } from '../../src/errors.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { createMemfd } from '../../src/host/memfd.ts';
import { Cleanup, OwnedFd } from '../../src/host/owned-fd.ts';
import { waitReadable } from '../../src/host/poll.ts';
import { MemoryTopology } from '../../src/memory/topology.ts';
import { VhostUserFrontend } from '../../src/vhost/frontend.ts';
import type { FrontendMode } from '../../src/vhost/frontend-channel.ts';
import { DeviceFrontend } from '../../src/vhost/frontend-device.ts';
import { FaultyBackend } from './faulty-backend.ts';
import { openFds } from './rig.ts';

interface Recorded {
  readonly name: string;
  readonly description: string;
  readonly fake_args: readonly string[];
  /** How far the session went: `init`, or more. */
  readonly plan: string;
  readonly observed: readonly string[];
  readonly qemu_exit: number;
  readonly qemu_stderr: readonly string[];
}

const root = new URL('../../', import.meta.url);
const faults = readdirSync(new URL('fixtures/vhost-user/faults', root)).map(
  (name) =>
    JSON.parse(
      readFileSync(new URL(`fixtures/vhost-user/faults/${name}/result.json`, root), 'utf8'),
    ) as Recorded,
);
const MODES: readonly FrontendMode[] = ['strict', 'qemu'];
const GIB = 1n << 30n;

/** A machine with RAM and three memslots that come and go, in front of a faulty back-end. */
class FaultRig implements Disposable {
  readonly backend: FaultyBackend;
  readonly device: DeviceFrontend;
  /** `plug 1: REFUSED` */
  readonly failures: string[] = [];
  readonly #owned = new Cleanup();
  readonly #topology = new MemoryTopology();
  readonly #root = this.#topology.createRegion({ kind: 'container', name: 'system', size: 1n << 48n });
  readonly #space = this.#topology.createAddressSpace('memory', this.#root);
  readonly #memslots = [1n, 2n, 3n].map((index) => this.#ram(`memslot${index}`, GIB, index << 44n));

  constructor(words: readonly string[], mode: FrontendMode, timeoutMs: number) {
    this.backend = this.#owned.use(new FaultyBackend(words));
    const wait = (fd: number, timeoutMs: number, other?: number): void => {
      this.backend.turn();
      waitReadable(fd, timeoutMs, other);
    };
    const frontend = new VhostUserFrontend(this.backend.socket, { mode, timeoutMs, wait });
    const notifiers = [0, 1].map(() => ({ maskedFd: this.#eventfd(), errorFd: this.#eventfd() }));
    this.device = new DeviceFrontend(frontend, {
      name: 'fs0',
      notifiers,
      hasBackendChannel: true,
      onMemoryError: ({ code }) => this.failures.push(code),
    });
    this.#owned.use(this.device);
    this.#root.addSubregion(0n, this.#ram('ram', 0x10000n, 5n << 44n));
  }

  /** What is in guest memory, whoever else knows of it. */
  get memory(): number {
    return this.#space.view.ranges.length;
  }

  /** Does it, whatever becomes of it; a protocol error is noted. */
  attempt(name: string, step: () => void): boolean {
    const from = this.failures.length;
    let isDone = true;
    try {
      step();
    } catch (error) {
      if (!(error instanceof ProtocolError)) throw error;
      this.failures.push(error.code);
      isDone = false;
    }
    this.backend.turn();
    for (let index = from; index < this.failures.length; index += 1)
      this.failures[index] = `\`${name}\` ${this.failures[index]}`;
    return isDone;
  }

  connect(): void {
    this.device.connect();
    this.#space.addListener(this.device.listener);
  }

  start(): void {
    const queues = [0n, 1n].map((index) => ({
      num: 16,
      descGpa: 0x1000n * index,
      availGpa: 0x1000n * index + 0x100n,
      usedGpa: 0x1000n * index + 0x200n,
      kickFd: this.#eventfd(),
      callFd: this.#eventfd(),
      usedIndex: () => 7,
    }));
    this.device.start({ features: this.device.features, queues });
  }

  plug(index: number): void {
    this.#root.addSubregion(BigInt(index + 3) * GIB, this.#memslots[index - 1]!);
  }

  unplug(index: number): void {
    this.#root.removeSubregion(this.#memslots[index - 1]!);
  }

  [Symbol.dispose](): void {
    this.#owned[Symbol.dispose]();
  }

  #ram(name: string, size: bigint, hostAddress: bigint) {
    const { fd } = this.#owned.use(new OwnedFd(createMemfd(name, 4096)));
    const block = { id: name, size, pageSize: 4096, fd, hostAddress };
    return this.#topology.createRegion({ kind: 'ram', name, size, block });
  }

  #eventfd(): number {
    return this.#owned.use(new OwnedFd(createEventfd())).fd;
  }
}

/** Does what was done with QEMU. @returns what came of it, for the table */
function replay(
  { fake_args: words, plan }: Pick<Recorded, 'fake_args' | 'plan'>,
  mode: FrontendMode,
  { timeoutMs = 50, isComparable = true } = {},
): string {
  using rig = new FaultRig(words, mode, timeoutMs);
  const { device, backend, failures } = rig;
  const isConnected = rig.attempt('connect', () => rig.connect());
  if (!isConnected) return failures.join(', ');
  rig.attempt('reset', () => device.reset());
  rig.attempt('start', () => rig.start());
  if (plan !== 'init') {
    for (const index of [1, 2, 3]) rig.attempt(`plug ${index}`, () => rig.plug(index));
    for (const index of [3, 2]) rig.attempt(`unplug ${index}`, () => rig.unplug(index));
    rig.attempt('plug 2', () => rig.plug(2));
    rig.attempt('stop', () => device.stop());
    rig.attempt('start again', () => rig.start());
    // whatever the back-end did, memory is as the machine wants it
    expect(rig.memory).toBe(3);
  }
  device.serveBackendRequests();
  backend.turn();
  const told = backend.answers.map((answer) => `its request is answered ${answer}`);
  if (device.failure !== undefined)
    return [...failures, ...told, `connection given up: ${device.failure.code}`].join(', ');
  // in step: it has the memory we think it has; one that refuses and does it all the same may have other
  if (isComparable)
    expect(device.table.held.map(({ guestPhysAddr }) => guestPhysAddr).toSorted(ascending)).toEqual(
      [...backend.regions.keys()].toSorted(ascending),
    );
  rig.attempt('last stop', () => device.stop());
  return [...failures, ...told, 'goes on'].join(', ');
}

const ascending = (a: bigint, b: bigint): number => (a < b ? -1 : a > b ? 1 : 0);

const rows = new Map<string, string[]>();
afterAll(() => {
  const path = fileURLToPath(new URL('docs/faults.md', root));
  const text = documentOf(rows);
  if (process.env['FAULTS'] === 'write') writeFileSync(path, text);
  expect(readFileSync(path, 'utf8'), 'docs/faults.md: FAULTS=write writes it anew').toBe(text);
});

describe.each(MODES)('%s', (mode) => {
  test.each(faults)('$name: $description', (recorded) => {
    const before = openFds();
    const outcome = replay(recorded, mode);
    expect(openFds()).toBe(before);
    const row = rows.get(recorded.name) ?? [recorded.name, recorded.description, qemuDoes(recorded)];
    rows.set(recorded.name, [...row, outcome]);
  });
});

const REQUESTS = [
  'GET_FEATURES',
  'GET_PROTOCOL_FEATURES',
  'GET_MAX_MEM_SLOTS',
  'SET_BACKEND_REQ_FD',
  'ADD_MEM_REG',
  'REM_MEM_REG',
  'SET_VRING_ENABLE',
  'GET_VRING_BASE',
  'SET_VRING_KICK',
];
const ACTIONS = [
  'err=1',
  'close',
  'closeafter',
  'shortclose=7',
  'size=0',
  'size=16',
  'req=3',
  'flags=1',
  'twice',
  'delay',
];

test('any mixture of misbehaviour: an error of the protocol at most, no hang, nothing left behind', () => {
  const rule = fc
    .tuple(fc.constantFrom(...REQUESTS), fc.nat(4), fc.constantFrom(...ACTIONS))
    .map(([request, count, action]) => `${request}#${count}:${action}`);
  fc.assert(
    fc.property(fc.array(rule, { minLength: 1, maxLength: 4 }), fc.constantFrom(...MODES), (rules, mode) => {
      const before = openFds();
      const outcome = replay({ fake_args: rules.flatMap((text) => ['--rule', text]), plan: 'io' }, mode, {
        timeoutMs: 5,
        isComparable: false,
      });
      expect(outcome).toMatch(/^`connect` [A-Z_]+$|goes on$|connection given up: [A-Z_]+$/);
      expect(openFds()).toBe(before);
    }),
    { numRuns: 150 },
  );
});

/** From what was seen of QEMU: how it ended, and what it said. */
function qemuDoes({ observed, qemu_exit: exit, qemu_stderr: said }: Recorded): string {
  const texts = [...new Set(said.map((text) => text.replace(/^-device [^ ]* /, '')))];
  const isDead =
    observed.some((text) => /guest read.*: None/.test(text)) ||
    said.some((text) => /Error starting/.test(text));
  const blocked = observed.find((text) => /latency during fault: [1-9]/.test(text));
  return [
    exit === 0 ? (isDead ? 'runs on, the share is dead' : 'runs on') : `exits with ${exit}`,
    ...(blocked === undefined ? [] : [`blocked: ${blocked}`]),
    ...texts.slice(0, 3).map((text) => `"${text}"`),
    ...(texts.length > 3 ? ['…'] : []),
  ].join('; ');
}

function documentOf(all: ReadonlyMap<string, readonly string[]>): string {
  const lines = [...all.values()].map(
    (row) => `| ${row.map((cell) => cell.replaceAll('|', '\\|')).join(' | ')} |`,
  );
  return `${PREFACE}\n| recording | the back-end | QEMU 10.0.2 | ours, \`strict\` | ours, \`qemu\` |\n|---|---|---|---|---|\n${lines.join('\n')}\n`;
}

const PREFACE = `# Back-ends that misbehave

What real QEMU did with each faulty back-end that was recorded (fixtures/vhost-user/faults), and what the device front-end of this
project does with the same. This page is written by test/vhost/frontend-faults.test.ts, which does it all again at each run:
connect, reset, start, three memslots plugged, two unplugged, one plugged again, stop, start; no more than the first start where the recording
ends with realizing the device. A cell names the operations that failed and the code of the error that each threw (\`strict\`) or reported
(\`qemu\`); then whether the device goes on. Where the connection is given up, changes of guest memory go on without the back-end,
and \`reconnect\` takes another. No wait is longer than the deadline (5 s by default), and no answer is taken for that to
another request: where QEMU is out of step for ever, ours ends the connection. "Runs on, the share is dead": QEMU does, and whoever uses
the share in the guest hangs.
`;
