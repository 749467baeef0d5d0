/** The machine of a guest test as QEMU's command line. */
import { join } from 'node:path';
import { runLog } from './daemon.ts';
import { KIT } from './guest-kit.ts';

export const MiB = 1024 ** 2;
export const GiB = 1024 ** 3;

export interface Share {
  readonly tag: string;
  readonly socketPath: string;
  readonly requestQueues?: number;
}

export interface GuestOptions {
  /** Names the logs, .cache/guest-runs/NAME.*.log. */
  readonly name: string;
  readonly shares: readonly Share[];
  /** Base memory in MiB. */
  readonly memory?: number;
  /** Processors of the guest. */
  readonly processors?: number;
  /** Size in bytes of a virtio-mem device `vm0` with dynamic memslots, created after the shares, empty at first. */
  readonly virtioMem?: number;
  /** DIMMs plugged before the guest starts, of 128 MiB each, sparse. */
  readonly dimms?: number;
  readonly extraArguments?: readonly string[];
  /** A reboot of the guest starts it again instead of ending QEMU. */
  readonly canReboot?: boolean;
}

export const DIMM_SIZE = 128 * MiB; // the least that Linux makes a memory block of

const KERNEL_ARGUMENTS = [
  'console=ttyS0 rdinit=/init panic=-1 nowatchdog rcupdate.rcu_cpu_stall_suppress=1',
  'memhp_default_state=online_movable',
].join(' ');

export function commandLine(options: GuestOptions, directory: string): string[] {
  const memory = (options.memory ?? 512) * MiB;
  const socket = (name: string): string => `${join(directory, name)}.sock,server=on,wait=off`;
  return [
    [
      'qemu-system-x86_64',
      '-display',
      'none',
      '-nodefaults',
      ...(options.canReboot === true ? [] : ['-no-reboot']),
    ],
    ['-M', 'q35,accel=tcg,memory-backend=mem0', '-cpu', 'max', '-smp', `${options.processors ?? 2}`],
    ['-m', `${memory / MiB}M${hotplugRoom(options, memory)}`],
    ['-object', `memory-backend-memfd,id=mem0,size=${memory},share=on`],
    ['-kernel', join(KIT, 'vmlinuz'), '-initrd', join(KIT, 'initrd'), '-append', KERNEL_ARGUMENTS],
    ['-serial', `file:${runLog(`${options.name}.console`)}`],
    ['-qmp', `unix:${socket('qmp')}`],
    ['-d', 'trace:vhost_user_write,trace:vhost_user_read', '-D', runLog(`${options.name}.trace`)],
    ['-device', 'virtio-serial-pci', '-chardev', `socket,id=control,path=${socket('control')}`],
    ['-device', 'virtserialport,chardev=control,name=control'],
    ['-device', 'pcie-root-port,id=rp0,chassis=1', '-device', 'pcie-root-port,id=rp1,chassis=2'],
    ...options.shares.map(shareArguments),
    ...dimmArguments(options.dimms ?? 0),
    virtioMemArguments(options.virtioMem),
    options.extraArguments ?? [],
  ].flat();
}

export function chardevOf(share: Share): string {
  return `chr-${share.tag}`;
}

export function deviceOf(share: Share): string {
  return `fs-${share.tag}`;
}

function shareArguments(share: Share): string[] {
  const queues = share.requestQueues === undefined ? '' : `,num-request-queues=${share.requestQueues}`;
  const properties = `id=${deviceOf(share)},chardev=${chardevOf(share)},tag=${share.tag},queue-size=1024${queues}`;
  return [
    '-chardev',
    `socket,id=${chardevOf(share)},path=${share.socketPath}`,
    '-device',
    `vhost-user-fs-pci,${properties}`,
  ];
}

function hotplugRoom({ virtioMem = 0, dimms = 0 }: GuestOptions, memory: number): string {
  const room = virtioMem + dimms * DIMM_SIZE;
  return room === 0 ? '' : `,slots=${dimms},maxmem=${(memory + room) / MiB}M`;
}

function dimmArguments(count: number): string[][] {
  return Array.from({ length: count }, (_, i) => [
    '-object',
    `memory-backend-memfd,id=dimm-mem${i},size=${DIMM_SIZE},share=on,reserve=off`,
    '-device',
    `pc-dimm,id=dimm${i},memdev=dimm-mem${i}`,
  ]);
}

function virtioMemArguments(size: number | undefined): string[] {
  if (size === undefined) return [];
  return [
    '-object',
    `memory-backend-memfd,id=vmem0,size=${size},share=on,reserve=off`,
    '-device',
    'virtio-mem-pci,id=vm0,memdev=vmem0,requested-size=0,dynamic-memslots=on,prealloc=off',
  ];
}
