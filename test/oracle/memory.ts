/**
 * Checks the memory model against recordings of QEMU: machines, sequences of operations, random programs.
 *
 *     npm run oracle:memory -- DIR…
 *
 * Every file of a known kind below the directories is one case. The last line is `N passed, N failed`.
 */
import { readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync } from 'node:zlib';
import { checkMachine, type MachineCase } from './machine.ts';
import { checkSequence, type SequenceCase } from './sequence.ts';
import { checkFuzz, type FuzzCase } from './fuzz.ts';

type Case = FuzzCase | SequenceCase | MachineCase;

function check(recording: Case): void {
  if ('truth' in recording) checkMachine(recording);
  else if (recording.kind === 'fuzz') checkFuzz(recording);
  else checkSequence(recording);
}

function filesBelow(path: string): readonly string[] {
  if (!statSync(path).isDirectory()) return [path];
  return readdirSync(path)
    .sort()
    .flatMap((name) => filesBelow(join(path, name)));
}

/** @returns undefined if the file is not a recording */
function load(path: string): Case | undefined {
  if (!path.endsWith('.json.gz')) return undefined;
  const recording: unknown = JSON.parse(gunzipSync(readFileSync(path)).toString());
  return isCase(recording) ? recording : undefined;
}

const isCase = (recording: unknown): recording is Case =>
  typeof recording === 'object' &&
  recording !== null &&
  (('truth' in recording && 'hmp' in recording) ||
    ('kind' in recording && (recording.kind === 'fuzz' || recording.kind === 'sequence')));

let passed = 0;
let failed = 0;
for (const path of process.argv.slice(2).flatMap(filesBelow)) {
  try {
    const recording = load(path);
    if (recording === undefined) continue;
    check(recording);
    passed += 1;
  } catch (error) {
    failed += 1;
    console.log(`FAIL ${path}: ${error instanceof Error ? error.message : String(error)}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
