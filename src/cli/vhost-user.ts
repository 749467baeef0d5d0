#!/usr/bin/env node
/** `vhost-user`: the toolkit's commands. One file each; this one only knows their names. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { runDemo } from './demo.ts';
import { MTREE_FORMATS, type MtreeFormat, runMtree } from './mtree.ts';
import { PLAN_FORMATS, type PlanFormat, runPlan } from './plan.ts';
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

program
  .command('mtree')
  .description("flat views and vhost memory tables of QEMU's `info mtree`, and the guesses that text needs")
  .argument('<file>', 'what `info mtree` (best with -D) or `info mtree -f` printed; - is standard input')
  .addOption(new Option('--format <format>', 'what to write').choices(MTREE_FORMATS).default('text'))
  .option('--space <name>', 'only the view of this address space')
  .option('-o, --output <file>', 'write to a file instead of standard output')
  .action(
    async (
      file: string,
      options: { readonly format: MtreeFormat; readonly space?: string; readonly output?: string },
    ) => {
      process.exitCode = await runMtree({ file, ...options });
    },
  );

program
  .command('plan')
  .description(
    'memory slots that devices take in plug order, what is refused and why, and an order that works',
  )
  .argument('<file>', 'the plan, JSON; - is standard input')
  .addOption(new Option('--format <format>', 'what to write').choices(PLAN_FORMATS).default('text'))
  .option('-o, --output <file>', 'write to a file instead of standard output')
  .action(async (file: string, options: { readonly format: PlanFormat; readonly output?: string }) => {
    process.exitCode = await runPlan({ file, ...options });
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
