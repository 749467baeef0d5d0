/** Asks a real QEMU what becomes of a plan: it is started, stopped, with the plan's devices on its command line. */
import { mkdtempSync, rmSync } from 'node:fs';
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import {
  FrontendRequest,
  ProtocolFeature,
  VHOST_USER_F_PROTOCOL_FEATURES,
} from '../../protocol/vhost-user.ts';
import type { PlanConfig, PlannedDevice } from '../../src/memory-devices/plan/config.ts';
import { TestProcess } from './processes.ts';
import { QmpClient } from './qmp.ts';

/** What there was of a device: its address, and for memslots of its own their number. */
export interface QemuDevice {
  readonly id: string;
  readonly address: bigint;
  readonly memslots: number | undefined;
}

/** Either all devices are there, or QEMU ended at one of them and said why. */
export type QemuAnswer =
  { readonly devices: readonly QemuDevice[] } | { readonly refused: string; readonly reason: string };

type Backend = Extract<PlannedDevice, { driver: 'vhost-user-fs' }>;

const VIRTIO_F_VERSION_1 = 32;

export async function askQemu(qemu: string, config: PlanConfig): Promise<QemuAnswer> {
  const directory = mkdtempSync(join(tmpdir(), 'plan-qemu-'));
  const servers = config.devices
    .filter((device) => device.driver === 'vhost-user-fs')
    .map((device) => serve(device, join(directory, `${device.id}.sock`)));
  const process = new TestProcess([qemu, ...argumentsFor(config, directory)], join(directory, 'log'));
  try {
    const ended = process.exited.then(() => Promise.reject(new Error('QEMU ended')));
    const connected = QmpClient.connect(join(directory, 'qmp.sock'), 5000);
    connected.catch(() => undefined);
    return await devicesOf(await Promise.race([connected, ended]), config);
  } catch (error) {
    // The QMP socket is there before the devices are, and goes with QEMU.
    await Promise.race([process.exited, sleep(1000)]);
    if (process.isAlive) throw error;
    return refusalIn(process.log);
  } finally {
    await process.stop();
    for (const server of servers) server.close();
    rmSync(directory, { recursive: true, force: true });
  }
}

async function devicesOf(qmp: QmpClient, config: PlanConfig): Promise<QemuAnswer> {
  const listed = (await qmp.execute('query-memory-devices')) as {
    readonly data: { readonly id: string; readonly addr?: number; readonly memaddr?: number };
  }[];
  const devices: QemuDevice[] = [];
  for (const { data } of listed) {
    const planned = config.devices.find(({ id }) => id === data.id);
    const hasOwn = planned?.driver === 'virtio-mem' && planned.dynamicMemslots;
    devices.push({
      id: data.id,
      address: BigInt(data.addr ?? data.memaddr ?? 0),
      memslots: hasOwn ? await memslotsOf(qmp, data.id) : undefined,
    });
  }
  qmp.close();
  return { devices };
}

/** Memslots are children of the device, whether they are mapped or not. */
async function memslotsOf(qmp: QmpClient, id: string): Promise<number> {
  const path = `/machine/peripheral/${id}/virtio-backend`;
  const children = (await qmp.execute('qom-list', { path })) as { readonly name: string }[];
  return children.filter(({ name }) => name.startsWith('memslot-')).length;
}

/** `qemu-system-x86_64: -device pc-dimm,id=d0,…: reason` */
function refusalIn(log: string): QemuAnswer {
  const match = /-device \S*\bid=([^,:\s]+)\S*: (?!warning: )(.*)/.exec(log);
  if (match === null) throw new Error(`QEMU ended:\n${log}`);
  return { refused: match[1]!, reason: match[2]! };
}

function argumentsFor({ ram, maxmem, dimmSlots, devices }: PlanConfig, directory: string): string[] {
  const [size = 0n] = ram;
  const limits =
    maxmem === undefined ? '' : `,maxmem=${maxmem}B${dimmSlots === 0 ? '' : `,slots=${dimmSlots}`}`;
  const options: Readonly<Record<string, string>> = {
    M: 'q35,accel=tcg,memory-backend=ram,nvdimm=on',
    m: `size=${size}B${limits}`,
    object: `memory-backend-memfd,id=ram,size=${size},share=on,reserve=off`,
    display: 'none',
    qmp: `unix:${join(directory, 'qmp.sock')},server=on,wait=off`,
  };
  const flags = ['-S', '-nodefaults', '-no-user-config'];
  const machine = Object.entries(options).flatMap(([name, value]) => [`-${name}`, value]);
  return [...flags, ...machine, ...devices.flatMap((device) => argumentsOf(device, directory))];
}

/** A device, after what it is made of. */
function argumentsOf(device: PlannedDevice, directory: string): string[] {
  const { id } = device;
  if (device.driver === 'vhost-user-fs') {
    const socket = `socket,id=${id}-socket,path=${join(directory, `${id}.sock`)}`;
    return ['-chardev', socket, '-device', `vhost-user-fs-pci,id=${id},chardev=${id}-socket,tag=${id}`];
  }
  const memory = `memory-backend-memfd,id=${id}-memory,size=${device.size},share=on,reserve=off`;
  return ['-object', memory, '-device', memoryDevice(device)];
}

function memoryDevice(device: Exclude<PlannedDevice, Backend>): string {
  const { id, driver, address } = device;
  const common = `id=${id},memdev=${id}-memory`;
  if (driver === 'virtio-mem') {
    const { blockSize, dynamicMemslots } = device;
    return [
      `virtio-mem-pci,${common},dynamic-memslots=${dynamicMemslots ? 'on' : 'off'}`,
      ...(blockSize === undefined ? [] : [`block-size=${blockSize}`]),
      ...(address === 0n ? [] : [`memaddr=${address}`]),
    ].join(',');
  }
  const wanted = address === 0n ? '' : `,addr=${address}`;
  if (driver === 'hv-balloon') return `hv-balloon,${common}${wanted}`;
  const slot = device.slot === undefined ? '' : `,slot=${device.slot}`;
  const label = device.labelSize === 0n ? '' : `,label-size=${device.labelSize}`;
  return `${driver},${common}${wanted}${slot}${label}`;
}

/** A back-end that answers what a front-end asks before it starts the device, and has the plan's limit. */
function serve(device: Backend, path: string): Server {
  const server = createServer((socket) => answerAll(socket, device));
  server.listen(path);
  return server;
}

function answerAll(socket: Socket, device: Backend): void {
  let pending = Buffer.alloc(0);
  socket.on('error', () => undefined); // QEMU may end at any time
  socket.on('data', (bytes: Buffer) => {
    pending = Buffer.concat([pending, bytes]);
    while (pending.length >= 12 && pending.length >= 12 + pending.readUInt32LE(8)) {
      const request = pending.readUInt32LE(0);
      pending = pending.subarray(12 + pending.readUInt32LE(8));
      const answer = answerTo(request, device);
      if (answer !== undefined) socket.write(reply(request, answer));
    }
  });
}

function answerTo(request: number, { hasProtocolFeatures, maxMemSlots }: Backend): bigint | undefined {
  const bit = (index: number, isSet = true): bigint => (isSet ? 1n << BigInt(index) : 0n);
  const answers: Readonly<Record<number, bigint>> = {
    [FrontendRequest.GET_FEATURES]:
      bit(VIRTIO_F_VERSION_1) | bit(VHOST_USER_F_PROTOCOL_FEATURES, hasProtocolFeatures),
    [FrontendRequest.GET_PROTOCOL_FEATURES]: bit(
      ProtocolFeature.CONFIGURE_MEM_SLOTS,
      maxMemSlots !== undefined,
    ),
    [FrontendRequest.GET_MAX_MEM_SLOTS]: BigInt(maxMemSlots ?? 0),
  };
  return answers[request];
}

const REPLY_FLAGS = 5; // version 1, reply

function reply(request: number, value: bigint): Buffer {
  const message = Buffer.alloc(20);
  message.writeUInt32LE(request, 0);
  message.writeUInt32LE(REPLY_FLAGS, 4);
  message.writeUInt32LE(8, 8);
  message.writeBigUInt64LE(value, 12);
  return message;
}
