/** ADD_MEM_REG and REM_MEM_REG with so many slots in the table. */
import { type Peer, type PeerName } from './peer.ts';
import { medians, ratios } from './measure.ts';
import type { Figure } from './result.ts';
import { FIRST_SLOTS } from './rig.ts';

/** Regions in the table, the base region's counted. */
const COUNTS = [FIRST_SLOTS + 2, 32, 128, 509];
const ROUNDS = 9;
const PAIRS = 25;

type Samples = { [peer in PeerName]?: number[] };

/** Peers that cannot have so many slots are left out. Leaves all slots plugged. */
export function slotTimes(all: readonly Peer[]): Figure[] {
  let plugged = FIRST_SLOTS;
  return COUNTS.flatMap((count) => {
    const peers = all.filter(({ mount }) => mount.machine.slotLimit >= count);
    // The last one comes and goes.
    for (; plugged < count - 2; plugged += 1) for (const { mount } of peers) mount.machine.plug(plugged);
    const last = plugged;
    const add: Samples = {};
    const remove: Samples = {};
    for (let round = 0; round < ROUNDS; round += 1)
      for (const { name, mount } of peers) {
        const times = Array.from({ length: PAIRS }, () => pair(mount.machine, last));
        (add[name] ??= []).push(middle(times.map(([added]) => added)));
        (remove[name] ??= []).push(middle(times.map(([, removed]) => removed)));
      }
    for (const { mount } of peers) mount.machine.plug(last);
    plugged += 1;
    return [figure('ADD_MEM_REG', count, add), figure('REM_MEM_REG', count, remove)];
  });
}

function pair(machine: Peer['mount']['machine'], slot: number): [number, number] {
  const began = performance.now();
  machine.plug(slot);
  const added = performance.now();
  machine.unplug(slot);
  return [1000 * (added - began), 1000 * (performance.now() - added)];
}

const figure = (name: string, count: number, of: Samples): Figure => ({
  group: 'memory slots',
  name: `${name}, ${count} slots`,
  unit: 'us, median',
  value: medians(of),
  ratio: ratios(of, (ours, theirs) => theirs / ours),
});

const middle = (values: readonly number[]): number =>
  [...values].sort((a, b) => a - b)[values.length >> 1] ?? 0;
