/** Every test of sessions and rings once more, each ring served by a thread of its own. */
import { useQueueThreads } from './rig.ts';

useQueueThreads();
await import('./backend.test.ts');
await import('./vring.test.ts');
await import('./busy-poll.test.ts');
await import('./dirty-log.test.ts');
await import('./hostile-frontend.test.ts');
await import('./odd-requests.test.ts');
