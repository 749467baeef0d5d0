/** Finds what `info mtree` printed in what was copied from QEMU's monitor: banner, prompts, echoed and other commands are left out. */
import { MemoryError } from '../../errors.ts';

const BANNER = /^QEMU .* monitor - type 'help' for more information$/;
const PROMPT = /^\(qemu\)/;
const HEADING = /^(?:address-space: |memory-region: |FlatView #)/;
/** How the monitor shows a command while it is typed: cursor left, erase to the end of the line. */
const TERMINAL = new RegExp(String.raw`\u001b\[[0-9;?]*[A-Za-z]`, 'g');

/**
 * The lines of the text, each at its place; those that `info mtree` did not print are empty.
 *
 * @throws {MemoryError} BAD_TREE if there is more than one output
 */
export function outputLines(text: string): string[] {
  const lines = text.replaceAll('\r', '').replaceAll(TERMINAL, '').split('\n');
  const starts = [
    0,
    ...lines.flatMap((line, at) => (BANNER.test(line) || PROMPT.test(line) ? [at + 1] : [])),
  ];
  if (starts.length === 1) return lines;
  const outputs = starts
    .map((start, i) => ({ start, end: (starts[i + 1] ?? lines.length + 1) - 1 }))
    .filter(({ start, end }) => lines.slice(start, end).some((line) => HEADING.test(line)));
  if (outputs.length > 1) {
    const places = outputs.map(({ start }) => start + 1).join(' and ');
    throw new MemoryError(
      'BAD_TREE',
      `there are ${outputs.length} outputs of "info mtree", from lines ${places}; one is expected`,
    );
  }
  return lines.map((line, at) => (outputs.some(({ start, end }) => at >= start && at < end) ? line : ''));
}
