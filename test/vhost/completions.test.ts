/** Chains the kernel works on: it must be done with guest memory before memory goes, or a ring stops. */
import { afterEach, beforeEach, expect, test } from 'vitest';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { type CompleteChain, type Completions, DEFERRED } from '../../src/vhost/device.ts';
import type { Chain } from '../../src/virtio/chain.ts';
import { RAM, Rig, TestDevice } from './rig.ts';

/** A kernel that finishes when it is waited for, or as many as `finishing` says. */
class Kernel implements Completions {
  readonly #eventfd = new OwnedFd(createEventfd());
  readonly chains: (readonly [number, number])[] = [];
  finishing = 0;

  get fd(): number {
    return this.#eventfd.fd;
  }
  get count(): number {
    return this.chains.length;
  }
  submit(): void {
    // It has begun already.
  }
  run(complete: CompleteChain): void {
    for (; this.finishing > 0 && this.chains.length > 0; this.finishing -= 1)
      complete(...this.chains.shift()!, 16);
  }
  settle(complete: CompleteChain): void {
    this.finishing = this.chains.length;
    this.run(complete);
  }
  close(): void {
    this.#eventfd.close();
  }
}

class KernelDevice extends TestDevice {
  readonly completions = new Kernel();

  override handle(queueIndex: number, { head }: Chain): number {
    this.completions.chains.push([queueIndex, head]);
    return DEFERRED;
  }
  override drain(_queueIndex: number, complete: CompleteChain): void {
    this.completions.settle(complete);
  }
}

let device: KernelDevice;
let rig: Rig;

beforeEach(() => {
  device = new KernelDevice();
  rig = new Rig({ device, hasQueueThreads: false }).start();
});
afterEach(() => {
  rig[Symbol.dispose]();
  device.completions.close();
});

/** The driver makes one chain available twice; the first of the two is answered. */
function offerTwice(): void {
  rig.offer(0);
  rig.pump();
  const { availGpa } = rig.drivers[0]!;
  const avail = new Uint16Array(rig.ram.bytes.buffer, rig.ram.bytes.byteOffset + availGpa - RAM, 4);
  avail[3] = avail[2]!;
  avail[1] = 2;
  rig.kick(0);
  rig.pump();
  expect(device.completions.count).toBe(2);
  device.completions.finishing = 1;
  rig.kick(0);
  rig.pump();
  expect(device.completions.count).toBe(1);
}

test('a chain that is offered twice and answered once is waited for before its memory goes', () => {
  offerTwice();
  rig.removeRegion();
  expect(device.completions.count).toBe(0);
});

test('… before the table is replaced', () => {
  offerTwice();
  rig.setTable([]);
  expect(device.completions.count).toBe(0);
});

test('… before its ring stops', () => {
  offerTwice();
  rig.stop(0);
  expect(device.completions.count).toBe(0);
});

test('… before the front-end is gone', () => {
  offerTwice();
  rig.session.close();
  expect(device.completions.count).toBe(0);
});
