/**
 * Checks the front-end against recordings of QEMU: the same inputs must give the same messages, octet for octet.
 *
 *     npm run oracle:wire -- DIR…
 *
 * Every directory with an `events.jsonl.gz` is one case; the other files of the recording are used where they are. A recording in which QEMU
 * or the back-end dies is compared up to there, and said so. The last line is `N passed, N failed`.
 */
import { findRecordings } from './frontend-recording.ts';
import { replay } from './frontend-replay.ts';

let passed = 0;
let failed = 0;
for (const path of findRecordings(process.argv.slice(2))) {
  const { messages, cut, difference } = replay(path);
  if (difference === undefined) passed += 1;
  else {
    failed += 1;
    console.log(`FAIL ${path}: after ${messages} messages: ${difference}`);
  }
  if (cut !== undefined) console.log(`cut  ${path}: after ${messages} messages: ${cut}`);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
