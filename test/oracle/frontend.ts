/**
 * Checks the front-end against recordings of QEMU: the same inputs must give the same messages, octet for octet.
 *
 *     npm run oracle:wire -- DIR…
 *
 * Every directory with an `events.jsonl.gz` is two cases, one for each level: the sections of guest memory that QEMU's vhost devices were
 * shown are given to our front-end (level 1); memory devices, requests of the guest and resets are given to our own memory devices, which
 * have to bring the same sections about (level 2). The other files of the recording are used where they are. A recording in which QEMU
 * or the back-end dies is compared up to there, and said so; so is a plug that QEMU let in against its own rules. The last line is `N passed, N failed`.
 */
import { findRecordings } from './frontend-recording.ts';
import { LEVELS, replay } from './frontend-replay.ts';

let passed = 0;
let failed = 0;
for (const path of findRecordings(process.argv.slice(2))) {
  for (const level of LEVELS) {
    const { messages, cut, difference, forced } = replay(path, level);
    if (difference === undefined) passed += 1;
    else {
      failed += 1;
      console.log(`FAIL ${path}, level ${level}: after ${messages} messages: ${difference}`);
    }
    for (const text of forced) console.log(`note ${path}, level ${level}: ${text}`);
    if (cut !== undefined) console.log(`cut  ${path}, level ${level}: after ${messages} messages: ${cut}`);
  }
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
