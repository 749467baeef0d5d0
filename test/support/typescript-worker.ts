/** Threads for tests: Node 20 alone cannot start one from a TypeScript file. */
import { Worker } from 'node:worker_threads';

const HOOKS = new URL('./typescript-hooks.mjs', import.meta.url).href;
const BOOT = `
  require('node:module').register(${JSON.stringify(HOOKS)});
  import(require('node:worker_threads').workerData.module).catch((error) => { throw error; });
`;

/**
 * Runs a TypeScript module in a thread. It finds `data` as `workerData.data`.
 *
 * @param module where it is: `new URL('./counter.ts', import.meta.url)`
 */
export function startWorker(module: URL, data: unknown): Worker {
  return new Worker(BOOT, { eval: true, workerData: { module: module.href, data } });
}

/** @throws what ended the thread, if anything did */
export async function ended(worker: Worker): Promise<void> {
  await new Promise<void>((resolve, reject) => {
    worker.once('error', reject);
    worker.once('exit', () => resolve());
  });
}
