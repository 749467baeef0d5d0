#!/usr/bin/env node
/** `vhost-user`: the toolkit's commands. One file each; this one only knows their names. */
import { Command, InvalidArgumentError } from 'commander';
import { runDemo } from './demo.ts';
import { reportAndExit } from './report.ts';
import { VERSION } from './version.ts';

const program = new Command('vhost-user')
  .description('A vhost-user toolkit: model guest memory, drive back-ends, serve file systems.')
  .version(`vhost-user ${VERSION}`, '-V, --version')
  .exitOverride();

program
  .command('demo')
  .description('start the back-end on a temporary directory and work on it through the loopback front-end')
  .option('--slots <n>', 'memory slots to add', positive, 64)
  .action(async (options: { readonly slots: number }) => {
    process.exitCode = await runDemo(options);
  });

try {
  await program.parseAsync();
} catch (error) {
  reportAndExit('vhost-user', error);
}

function positive(text: string): number {
  const value = Number(text);
  if (!/^\d+$/.test(text) || value < 1 || value > 32768)
    throw new InvalidArgumentError('Allowed: a whole number from 1 to 32768.');
  return value;
}
