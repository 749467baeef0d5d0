/** Ending the process whatever its threads do. */
import { bind } from './libc.ts';

const exitAtOnce = bind('_exit', 'void', ['int']);

/** Ends the process here and now. `process.exit` waits for threads, also for one that hangs in a system call. */
export function exitNow(status: number): never {
  exitAtOnce(status);
  throw new Error('_exit returned');
}
