/** The report as TAP 14, for test harnesses: https://testanything.org/tap-version-14-specification.html */
import { type ConformanceReport } from '../report.ts';

/** Cases that failed at the level `robustness` are marked TODO: harnesses show them and do not count them. */
export function reportTap({ backend, versions, cases }: ConformanceReport): string {
  const lines = [
    'TAP version 14',
    `# ${oneLine(`${backend.name} ${versions.backend}`)}`,
    `1..${cases.length}`,
  ];
  cases.forEach(({ id, title, level, spec, verdict, expected, seen, ms }, i) => {
    const isGood = verdict === 'pass' || verdict === 'skip';
    const directive =
      verdict === 'skip'
        ? ` # SKIP ${oneLine(seen)}`
        : !isGood && level === 'robustness'
          ? ` # TODO ${verdict}, at the level robustness`
          : '';
    lines.push(`${isGood ? 'ok' : 'not ok'} ${i + 1} - ${id}: ${escaped(oneLine(title))}${directive}`);
    if (isGood) return;
    lines.push('  ---');
    const fields = { verdict, level, section: spec.section, says: spec.says, expected, seen };
    for (const [name, value] of Object.entries(fields)) lines.push(`  ${name}: ${JSON.stringify(value)}`);
    lines.push(`  duration_ms: ${ms}`, '  ...');
  });
  return `${lines.join('\n')}\n`;
}

const oneLine = (text: string): string => text.replaceAll(/\s+/g, ' ').trim();
/** `#` begins a directive. */
const escaped = (text: string): string => text.replaceAll('\\', '\\\\').replaceAll('#', '\\#');
