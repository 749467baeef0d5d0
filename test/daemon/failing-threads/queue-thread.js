/** Stands in for a queue thread: fails, as a bug does or as a thread without resources, or ends at once. */
import { workerData } from 'node:worker_threads';

if (workerData.failsWith0) process.on('exit', () => (process.exitCode = 0));
if (workerData.isFailing) throw new TypeError('what a bug looks like');
