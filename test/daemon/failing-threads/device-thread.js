/** Stands in for the device thread: asks for a queue thread, then waits to be stopped, in vain if `isStuck`. */
import { readSync } from 'node:fs';
import { parentPort, workerData } from 'node:worker_threads';

const { port1: port } = new MessageChannel();
parentPort.postMessage({ kind: 'startQueueThread', setup: { port, ...workerData.queueThread } }, [port]);
const timer = setInterval(() => {
  try {
    readSync(workerData.stopFd, Buffer.alloc(8));
    if (!workerData.isStuck) clearInterval(timer);
  } catch {
    // Not stopped yet.
  }
}, 5);
