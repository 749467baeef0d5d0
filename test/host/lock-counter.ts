/** A thread that counts in native memory, under the lock at byte 0: reads word 4, dawdles, writes it. */
import { workerData } from 'node:worker_threads';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { SharedLock } from '../../src/host/shared-lock.ts';

const { data } = workerData as {
  readonly data: { readonly address: number; readonly rounds: number; readonly threads: number };
};
const memory = NativeMemory.at(data.address, 4096);
const lock = new SharedLock(memory, 0);
// All of them at once, or the first is done before the second starts.
Atomics.add(memory.u32, 5, 1);
while (Atomics.load(memory.u32, 5) < data.threads);
for (let i = 0; i < data.rounds; i += 1) {
  lock.acquire();
  const before = memory.u32[4]!;
  for (let spin = 0; spin < i % 64; spin += 1);
  memory.u32[4] = before + 1;
  lock.release();
}
