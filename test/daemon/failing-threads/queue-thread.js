/** Stands in for a queue thread: fails, or ends at once. */
import { workerData } from 'node:worker_threads';

if (workerData.isFailing) throw new TypeError('what a bug looks like');
