/** The last line of a test run, `N passed, N failed`, which tools that count tests in any language understand. */
import type { Reporter, TestModule } from 'vitest/node';

export class CountReporter implements Reporter {
  onTestRunEnd(modules: readonly TestModule[], unhandledErrors: readonly unknown[]): void {
    let passed = 0;
    let failed = unhandledErrors.length;
    let skipped = 0;
    for (const module of modules) {
      failed += module.errors().length; // a file that does not load, a hook that throws
      for (const suite of module.children.allSuites()) failed += suite.errors().length;
      for (const test of module.children.allTests()) {
        const { state } = test.result();
        if (state === 'passed') passed++;
        else if (state === 'failed') failed++;
        else skipped++;
      }
    }
    process.once('exit', (code) => {
      const failures = code === 0 ? failed : Math.max(failed, 1); // such as a global setup that throws
      console.log(`\n${passed} passed, ${failures} failed${skipped === 0 ? '' : `, ${skipped} skipped`}`);
    });
  }
}
