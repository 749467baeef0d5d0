#!/usr/bin/env node
/** `vhost-user-fs`: serves a host directory as a virtio-fs device. Flags are those of virtiofsd. */
import { runDaemon } from '../daemon/daemon.ts';
import { parseFsArguments } from './fs-arguments.ts';
import { reportAndExit } from './report.ts';

try {
  const parsed = parseFsArguments(process.argv.slice(2));
  if (parsed.kind === 'print') {
    process.stdout.write(`${parsed.text}\n`);
  } else {
    process.exitCode = await runDaemon(parsed.options);
  }
} catch (error) {
  reportAndExit('vhost-user-fs', error);
}
