/**
 * Does the slot experiments of QEMU again.
 *
 *     npm run oracle:slots -- DIR…
 *
 * Every row of every `*.jsonl` file in the directories is one case. The last line is `N passed, N failed`.
 */
import { runExperiments } from './slot-experiments.ts';

let passed = 0;
let failed = 0;
for (const { place, differences, knownBug } of runExperiments(process.argv.slice(2))) {
  if (differences.length === 0) passed += 1;
  else {
    failed += 1;
    console.log(`FAIL ${place}: ${differences.join('; ')}`);
  }
  if (knownBug !== undefined) console.log(`bug  ${place}: ${knownBug}`);
}
console.log(`${passed} passed, ${failed} failed`);
process.exitCode = failed === 0 && passed > 0 ? 0 : 1;
