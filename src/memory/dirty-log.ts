import type { MemoryTopology } from './topology.ts';

/** Tells listeners that the dirty logs of all sections have been brought up to date. */
export function afterDirtyLogSync(topology: MemoryTopology): void {
  topology.notifying(() => {
    for (const { listener } of topology.listeners) listener.logGlobalAfterSync?.();
  });
}
