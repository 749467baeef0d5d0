#!/usr/bin/env node
/** `vhost-user`: the toolkit's commands. One file each; this one only knows their names. */
import { Command, InvalidArgumentError, Option } from 'commander';
import { DEVICE_NAMES, type DeviceName, LEVELS } from '../conformance/case.ts';
import { COMMAND_FORM, parseDevice } from './backend-command.ts';
import { runConform } from './conform.ts';
import { runDecode } from './decode.ts';
import { MAX_DEMO_SLOTS, runDemo } from './demo.ts';
import { runMtree } from './mtree.ts';
import { runPlan } from './plan.ts';
import { runReplay } from './replay.ts';
import { type ProbeOptions, runProbe } from './probe.ts';
import { REPORT_FORMATS, type ReportFormat } from './report-file.ts';
import { reportAndExit } from './report.ts';
import { runStress, type StressOptions } from './stress.ts';
import { runTap } from './tap.ts';
import { VERSION } from './version.ts';

const program = new Command('vhost-user')
  .description('A vhost-user toolkit: model guest memory, drive back-ends, serve file systems.')
  .version(`vhost-user ${VERSION}`, '-V, --version')
  .exitOverride();

program
  .command('demo')
  .description('memory comes and goes while files are written, read back and checked; all by itself')
  .option('--slots <n>', 'memory slots that come and go: GiB of sparse memory', within(1, MAX_DEMO_SLOTS), 64)
  .option('--seconds <n>', 'how long', within(1, 600), 6)
  .action(async (options: { readonly slots: number; readonly seconds: number }) => {
    process.exitCode = await runDemo(options);
  });

program
  .command('mtree')
  .description("flat views and vhost memory tables of QEMU's `info mtree`, and the guesses that text needs")
  .argument('<file>', 'what `info mtree` (best with -D) or `info mtree -f` printed; - is standard input')
  .addOption(new Option('--format <format>', 'what to write').choices(REPORT_FORMATS).default('text'))
  .option('--space <name>', 'only the view of this address space')
  .option('-o, --output <file>', 'write to a file instead of standard output')
  .action(
    async (
      file: string,
      options: { readonly format: ReportFormat; readonly space?: string; readonly output?: string },
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
  .addOption(new Option('--format <format>', 'what to write').choices(REPORT_FORMATS).default('text'))
  .option('-o, --output <file>', 'write to a file instead of standard output')
  .action(async (file: string, options: { readonly format: ReportFormat; readonly output?: string }) => {
    process.exitCode = await runPlan({ file, ...options });
  });

program
  .command('tap')
  .description('stand between a front-end and a back-end, pass everything on, and write what was said')
  .requiredOption('--listen <path>', 'where the front-end connects')
  .requiredOption('--connect <path>', 'where the back-end listens')
  .option('--jsonl <file>', 'write a recording, which decode and replay read')
  .option('--text', 'write text to standard output; the default without --jsonl')
  .option('--label <name>', 'mark the messages of the recording')
  .option('--once', 'end with the first connection')
  .action(async (options: Parameters<typeof runTap>[0]) => {
    process.exitCode = await runTap(options);
  });

program
  .command('decode')
  .description('recorded conversations as text: messages, replies, memory table, rings, and what was wrong')
  .argument('<file...>', 'recordings, JSON Lines, perhaps compressed by gzip')
  .option('--json', 'one JSON object a message; with --summary one a file')
  .option('--summary', 'counts, latencies, most memory slots, anomalies')
  .action(async (files: string[], options: { readonly json?: boolean; readonly summary?: boolean }) => {
    process.exitCode = await runDecode({ files, ...options });
  });

program
  .command('replay')
  .description(
    "play the front-end's side of a recording against a back-end; status 1 if it answers differently",
  )
  .argument('<file>', 'a recording')
  .requiredOption('--socket <path>', 'where the back-end listens')
  .option('--conn <n>', 'which connection of the recording; otherwise the first', count)
  .option('--exact', 'send also features, and requests that need them, that this back-end does not offer')
  .option('--timeout <ms>', 'how long a reply may take', positive, 5000)
  .option('--json', 'one JSON object instead of text')
  .action(
    async (
      file: string,
      {
        timeout,
        ...options
      }: Omit<Parameters<typeof runReplay>[0], 'file' | 'timeoutMs'> & { timeout: number },
    ) => {
      process.exitCode = await runReplay({ file, timeoutMs: timeout, ...options });
    },
  );

program
  .command('probe')
  .description('what a back-end offers, and whether it acknowledges what front-ends rely on')
  .option('--command <cmd>', `start a back-end, which is ended afterwards: ${COMMAND_FORM}`)
  .option('--socket <path>', 'where one listens')
  .option('--timeout <ms>', 'how long an answer may take', positive, 2000)
  .option('--json', 'one JSON object instead of text')
  .action(async ({ timeout, ...options }: Omit<ProbeOptions, 'timeoutMs'> & { timeout: number }) => {
    process.exitCode = await runProbe({ ...options, timeoutMs: timeout });
  });

program
  .command('conform')
  .description('run the conformance suite against a back-end; status 1 if it does not keep the specification')
  .option('--command <cmd>', `start a back-end, as often as needed: ${COMMAND_FORM}`)
  .option('--socket <path>', 'where one listens that keeps running')
  .addOption(deviceOption('any'))
  .option('--only <id...>', 'these cases, or all below these names')
  .option('--report <file...>', 'write a report: .json, .tap or .html')
  .option('--timeout <ms>', 'how long an answer may take', positive, 2000)
  .option('--compare <file...>', 'run nothing: compare .json reports side by side, with --report FILE.html')
  .option('--list', 'say what cases there are, and run none')
  .option('--name <name>', 'what reports call the back-end')
  .option('--backend-version <text>', 'its version, for reports')
  .addOption(
    new Option('--fail-on <level>', 'the weakest level that makes the exit status 1')
      .choices(LEVELS)
      .default('should'),
  )
  .action(
    async ({
      timeout,
      ...options
    }: Omit<Parameters<typeof runConform>[0], 'timeoutMs'> & { readonly timeout: number }) => {
      process.exitCode = await runConform({ timeoutMs: timeout, ...options });
    },
  );

program
  .command('stress')
  .description(
    'memory slots of a back-end up to its limit and beyond, a storm of changes under I/O, kills; status 1 with a violation',
  )
  .option('--command <cmd>', `start a back-end, as often as needed: ${COMMAND_FORM}`)
  .option('--socket <path>', 'where one listens')
  .addOption(deviceOption('fs'))
  .option('--overwrite', 'the disk of a back-end that listens (--device blk --socket) may be written')
  .option('--request-queues <n>', 'queues that carry requests', within(1, 64), 1)
  .option('--crossing', 'some buffers begin in one memory slot and end in the next')
  .option('--slots <n>', 'use so many memory regions at most', positive)
  .option('--seed <n>', 'repeat the run of this seed; otherwise another each time', count)
  .option('--operations <n>', 'changes of memory in the storm (10000, unless there is a time)', count)
  .option('--time <s>', 'how long the storm lasts', count)
  .option('--restarts <n>', 'how often the back-end is killed and started again', count, 4)
  .option('--timeout <ms>', 'how long an answer may take', positive, 5000)
  .option('--shrink-time <s>', 'how long to look for the shortest sequence of each violation', count, 30)
  .option('--report <file>', 'write a report, JSON')
  .option('--sequences <dir>', 'where sequences that show violations are written', '.')
  .option('--replay <file>', 'run such a sequence instead')
  .option('--json', 'one JSON object instead of text')
  .action(async (options: StressOptions) => {
    process.exitCode = await runStress(options);
  });

endQuietly(process.stdout);
endQuietly(process.stderr);
try {
  await program.parseAsync();
} catch (error) {
  reportAndExit('vhost-user', error);
}

/** `vhost-user demo | head`: that nobody reads any more is no defect. What holds something ends by itself, and tidies up. */
function endQuietly(stream: NodeJS.WriteStream): void {
  stream.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
  });
}

function deviceOption(byDefault: DeviceName): Option {
  return new Option(
    '--device <device>',
    'what it is; blk: it serves {dir}/disk.img; any: nothing is read or written',
  )
    .choices(DEVICE_NAMES)
    .argParser(parseDevice)
    .default(byDefault);
}

function positive(text: string): number {
  return within(1, 32768)(text);
}

function within(min: number, max: number): (text: string) => number {
  return (text) => {
    const value = Number(text);
    if (!/^\d{1,9}$/.test(text) || value < min || value > max)
      throw new InvalidArgumentError(`Allowed: a whole number from ${min} to ${max}.`);
    return value;
  };
}

function count(text: string): number {
  if (!/^\d{1,9}$/.test(text)) throw new InvalidArgumentError('Allowed: a whole number.');
  return Number(text);
}
