/** How a command line ends when something went wrong. */
import { CommanderError } from 'commander';
import { ConfigError } from '../errors.ts';

/**
 * Tells the operator and sets the exit status: 2 for a wrong option, and the error itself for everything else,
 * which is a defect of ours.
 */
export function reportAndExit(program: string, error: unknown): void {
  if (error instanceof CommanderError) {
    // commander has printed its message already; help and version end with status 0.
    process.exitCode = error.exitCode === 0 ? 0 : 2;
    return;
  }
  if (error instanceof ConfigError) {
    process.stderr.write(`${program}: ${error.message}\n`);
    process.exitCode = 2;
    return;
  }
  throw error;
}
