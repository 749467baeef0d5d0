/** A report for people. */
import { address16, lastOf } from './names.ts';
import type { MtreeReport, ReportView } from './report.ts';

export function reportText({ views, guesses }: MtreeReport): string {
  const blocks = views.map(viewText);
  if (guesses.length > 0)
    blocks.push(
      ['Guessed, as the text does not say it:', ...guesses.map((guess) => `  - ${guess}`)].join('\n'),
    );
  return `${blocks.join('\n\n')}\n`;
}

function viewText({ spaces, root, ranges, memoryTable }: ReportView): string {
  const lines = [`Flat view of ${spaces.map((name) => `"${name}"`).join(', ')}, from ${root}`];
  if (ranges.length === 0) lines.push('  nothing');
  for (const { start, size, type, name, offset, priority, nonvolatile } of ranges) {
    const where = `${address16(start)}-${address16(lastOf(start, size))}`;
    const what = `(prio ${priority}, ${nonvolatile ? 'nv-' : ''}${type}): ${name}`;
    lines.push(`  ${where} ${what}${offset === 0n ? '' : ` @${address16(offset)}`}`);
  }
  if (memoryTable.length === 0) return lines.join('\n');
  lines.push(
    `  Memory table of a vhost device: ${memoryTable.length} ${memoryTable.length === 1 ? 'slot' : 'slots'}`,
  );
  for (const [index, { guestPhysAddr, memorySize, name, offset }] of memoryTable.entries()) {
    const from = offset === 0n ? '' : ` @${address16(offset)}`;
    lines.push(
      `    ${String(index).padStart(3)}  gpa 0x${guestPhysAddr.toString(16)} size 0x${memorySize.toString(16)} ${name}${from}`,
    );
  }
  return lines.join('\n');
}
