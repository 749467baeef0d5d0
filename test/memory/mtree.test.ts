import { readFileSync } from 'node:fs';
import { gunzipSync } from 'node:zlib';
import { expect, test } from 'vitest';
import { parseMtree } from '../../src/memory/mtree/parse.ts';
import { pictureOf } from '../../src/memory/mtree/picture.ts';
import { reportText } from '../../src/memory/mtree/report-text.ts';
import { reportOf } from '../../src/memory/mtree/report.ts';
import type { MachineCase } from '../oracle/machine.ts';

const TREE = `address-space: memory
  0000000000000000-ffffffffffffffff (prio 0, i/o): system
    0000000000000000-000000003fffffff (prio 0, ram): alias ram-below-4g @pc.ram 0000000000000000-000000003fffffff
    00000000000c0000-00000000000c3fff (prio 1, ram): alias pam-rom @pc.ram 00000000000c0000-00000000000c3fff
    00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
    0000000100000000-000000013fffffff (prio 0, ram): alias ram-above-4g @pc.ram 0000000040000000-000000007fffffff

memory-region: pc.ram
  0000000000000000-000000007fffffff (prio 0, ram): pc.ram

`;

test('a tree gives its flat view, its memory table, and the guesses made', () => {
  expect(reportText(reportOf(parseMtree(TREE)))).toBe(`Flat view of "memory", from system
  0000000000000000-00000000000bffff (prio 0, ram): pc.ram
  00000000000c0000-00000000000c3fff (prio 0, rom): pc.ram @00000000000c0000
  00000000000c4000-000000003fffffff (prio 0, ram): pc.ram @00000000000c4000
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic
  0000000100000000-000000013fffffff (prio 0, ram): pc.ram @0000000040000000
  Memory table of a vhost device: 2 slots
      0  gpa 0x0 size 0x40000000 pc.ram
      1  gpa 0x100000000 size 0x40000000 pc.ram @0000000040000000

Guessed, as the text does not say it:
  - i/o regions with subregions are containers, those without answer themselves
  - alias pam-rom is readonly, by its name
  - all RAM can be shared: the text does not say which has a file behind it
`);
});

test('a flat view is read as it is', () => {
  const report = reportOf(
    parseMtree(`FlatView #0
 AS "memory", root: system
 AS "cpu-memory-0", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): mem0
  00000000000a0000-00000000000bffff (prio 1, i/o): vga
  0000000000100000-000000001fffffff (prio 0, ram): mem0 @0000000000100000 KVM

`),
  );
  expect(report.views).toHaveLength(1);
  expect(report.views[0]!.spaces).toEqual(['memory', 'cpu-memory-0']);
  expect(report.views[0]!.memoryTable).toEqual([
    { guestPhysAddr: 0n, memorySize: 0xa0000n, name: 'mem0', offset: 0n },
    { guestPhysAddr: 0x100000n, memorySize: 0x1ff00000n, name: 'mem0', offset: 0x100000n },
  ]);
});

test('the flat views of a recorded machine are read without a line left over', () => {
  const file = new URL('../../fixtures/mtree/machines/guest-q35-vmem-dyn@r1-512M.json.gz', import.meta.url);
  const { hmp } = JSON.parse(gunzipSync(readFileSync(file)).toString()) as MachineCase;
  const text = parseMtree(hmp['mtree-f']!);
  const ranges = hmp['mtree-f']!.split('\n').filter((line) => /^ {2}[0-9a-f]{16}-/.test(line));
  const parsed = text.kind === 'flat' ? text.views.flatMap((view) => view.ranges) : [];
  expect(parsed).toHaveLength(ranges.length);
});

test('regions printed deeper than their parent are inside a disabled one that is left out', () => {
  const report = reportOf(
    parseMtree(`address-space: I/O
  0000000000000000-000000000000ffff (prio 0, i/o): io
      0000000000000000-0000000000000003 (prio 0, i/o): acpi-evt
    0000000000000070-0000000000000071 (prio 0, i/o): rtc
`),
  );
  expect(report.views[0]!.ranges.map(({ name }) => name)).toEqual(['rtc']);
  expect(report.guesses).toContain(
    'acpi-evt is taken to be inside a disabled region that is not printed: use info mtree -D',
  );
});

test('a picture has a box for every range, and no name of a region breaks it', () => {
  const picture = pictureOf(reportOf(parseMtree(TREE.replaceAll('ioapic', '<io&apic>'))));
  expect(picture.match(/<rect x=/g)).toHaveLength(5);
  expect(picture).toContain('&lt;io&amp;apic&gt;');
  expect(picture).not.toContain('<io&apic>');
});

const FLAT = `FlatView #0
 AS "memory", root: system
 Root memory region: system
  0000000000000000-000000000009ffff (prio 0, ram): pc.ram
  00000000fec00000-00000000fec00fff (prio 0, i/o): ioapic

FlatView #1
 AS "mch", root: bus master container
 Root memory region: (none)
  No rendered FlatView

`;
const BANNER = "QEMU 10.0.2 monitor - type 'help' for more information\n";

test.each([
  ['a tree', TREE, 'info mtree'],
  ['flat views', FLAT, 'info mtree -f'],
])('%s copied from the monitor, with all around it, is read as if alone', (_, text, command) => {
  const alone = parseMtree(text);
  const session = `me@host:~$ qemu-system-x86_64 -M q35 -m 2G -monitor stdio
qemu-system-x86_64: warning: something to be told before
${BANNER}(qemu) info version
10.0.2Debian 1:10.0.2+ds-2+deb13u1
(qemu) ${command}
${text}(qemu) quit
me@host:~$ `;
  expect(parseMtree(session)).toEqual(alone);
  expect(parseMtree(session.replaceAll('\n', '\r\n'))).toEqual(alone);
  expect(parseMtree(`(qemu) ${command}\n${text}(qemu) `)).toEqual(alone);
  expect(parseMtree(`${text}(qemu)`)).toEqual(alone);
});

test('what a terminal is told while a command is typed, as QEMU writes it to a pipe, is left out', () => {
  const typed = 'i\u001B[K\u001B[Din\u001B[K\u001B[D\u001B[Dinfo mtree -f\u001B[K';
  expect(parseMtree(`${BANNER}(qemu) ${typed}\r\n${FLAT}(qemu) q\u001B[K\u001B[Dquit\u001B[K\r\n`)).toEqual(
    parseMtree(FLAT),
  );
});

test('two outputs are not mixed', () => {
  const both = `${BANNER}(qemu) info mtree\n${TREE}(qemu) info mtree -f\n${FLAT}(qemu) `;
  expect(() => parseMtree(both)).toThrow(
    'there are 2 outputs of "info mtree", from lines 3 and 14; one is expected',
  );
});

test.each([
  ['in a tree', 'info mtree', TREE.replace('(prio 1, ram)', '(prio 1)'), /^line 6 is .*; expected a range/],
  ['in a flat view', 'info mtree -f', `${FLAT}oops\n`, /^line 14 is "oops"; expected a range/],
  ['before a tree', 'info mtree', `oops\n${TREE}`, /^line 3 is "oops"; expected "address-space: NAME"/],
  ['before flat views', 'info mtree -f', `oops\n${FLAT}`, /^line 3 is "oops"; expected "FlatView #N"/],
  [
    'without its indentation',
    'info mtree',
    TREE.replaceAll(/^ +/gm, ''),
    /^line 4 is .*; expected two spaces/,
  ],
  [
    'of an address space',
    'info mtree -f',
    FLAT.replace(', root: system', ''),
    /^line 4 is .*; expected " AS/,
  ],
])('a wrong line %s is named, with what was expected', (_, command, text, message) => {
  expect(() => parseMtree(`${BANNER}(qemu) ${command}\n${text}(qemu) `)).toThrow(
    expect.objectContaining({ code: 'BAD_TREE', message: expect.stringMatching(message) as string }),
  );
});

test.each([
  ['nothing', ''],
  ['something else', 'hello\n'],
  ['a broken line', 'address-space: memory\n  0000-ffff (prio 0, ram): x\n'],
  ['an alias without its section', TREE.slice(0, TREE.indexOf('memory-region'))],
])('%s is refused with BAD_TREE', (_, text) => {
  expect(() => reportOf(parseMtree(text))).toThrow(expect.objectContaining({ code: 'BAD_TREE' }));
});
