/** The layers of ARCHITECTURE.md: who may import whom, and who alone may import which package. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, normalize, relative } from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, test } from 'vitest';

const root = fileURLToPath(new URL('..', import.meta.url));

/** What each layer may import besides itself. Single files of src are layers of their own. */
const BASE = ['protocol', 'units', 'errors'];
const ALLOWED: { readonly [layer: string]: readonly string[] } = {
  protocol: [],
  units: ['protocol'],
  errors: ['protocol'],
  log: BASE,
  host: BASE,
  memory: ['units', 'errors'],
  'memory-devices': ['memory', ...BASE],
  'guest-memory': ['host', 'units', 'errors'],
  virtio: ['guest-memory', ...BASE],
  vhost: ['virtio', 'guest-memory', 'memory-devices', 'memory', 'host', 'log', ...BASE],
  fuse: ['virtio', 'log', ...BASE],
  passthrough: ['fuse', 'host', 'log', ...BASE],
  machine: [
    'passthrough',
    'fuse',
    'vhost',
    'virtio',
    'guest-memory',
    'memory-devices',
    'memory',
    'host',
    'log',
    ...BASE,
  ],
  conformance: [
    'machine',
    'vhost',
    'virtio',
    'guest-memory',
    'memory-devices',
    'memory',
    'host',
    'log',
    ...BASE,
  ],
  stress: ['machine', 'vhost', 'memory-devices', 'memory', 'host', ...BASE],
  daemon: [
    'machine',
    'passthrough',
    'fuse',
    'vhost',
    'virtio',
    'guest-memory',
    'memory-devices',
    'memory',
    'host',
    'log',
    ...BASE,
  ],
};
/** May import anything: the programs, and the public face of the package. */
const TOP = ['cli', 'index'];

/** Packages that only some places may import. */
const OWNERS: { readonly [name: string]: (file: string) => boolean } = {
  koffi: (file) => file.startsWith('src/host/'),
  bufferpack: (file) => file === 'protocol/struct.ts',
  pino: (file) => /^src\/(cli|daemon)\/|^src\/log\.ts$/.test(file),
  'pino-pretty': (file) => /^src\/(cli|daemon)\/|^src\/log\.ts$/.test(file),
  commander: (file) => file.startsWith('src/cli/'),
};

interface Import {
  readonly from: string;
  readonly to: string;
}

/** Every file of a directory tree, as a path from the root. */
const filesIn = (directory: string): string[] =>
  readdirSync(join(root, directory), { recursive: true, encoding: 'utf8' })
    .filter((name) => name.endsWith('.ts') && !name.endsWith('.d.ts'))
    .map((name) => join(directory, name));

/** What a file imports: a path from the root for our own files, otherwise the name as it stands. */
function importsOf(file: string): Import[] {
  const text = readFileSync(join(root, file), 'utf8').replaceAll(/\/\*[\s\S]*?\*\/|^\s*\/\/.*$/gm, '');
  const specifiers = text.matchAll(/(?:\bfrom|\bimport|\bimport\(|\bnew URL\()\s*['"]([^'"]+)['"]/g);
  return [...specifiers].map(([, specifier]) => ({ from: file, to: resolve(file, specifier!) }));
}

const resolve = (file: string, specifier: string): string =>
  specifier.startsWith('.') ? relative(root, normalize(join(root, dirname(file), specifier))) : specifier;

const isOurs = (path: string): boolean => path.startsWith('src/') || path.startsWith('protocol/');

/** `src/host/epoll.ts` is of layer `host`, `src/units.ts` of `units`. */
const layerOf = (path: string): string =>
  path.startsWith('protocol/') ? 'protocol' : path.split('/')[1]!.replace(/\.ts$/, '');

const isAllowed = ({ from, to }: Import): boolean => {
  const [layer, imported] = [layerOf(from), layerOf(to)];
  return layer === imported || TOP.includes(layer) || (ALLOWED[layer]?.includes(imported) ?? false);
};

const files = [...filesIn('src'), ...filesIn('protocol')];
const imports = files.flatMap(importsOf);
const show = ({ from, to }: Import): string => `${from} imports ${to}`;

describe('the layers', () => {
  test('are all in the table', () => {
    const unknown = files.filter((file) => !(layerOf(file) in ALLOWED) && !TOP.includes(layerOf(file)));
    expect(unknown).toEqual([]);
  });

  test('import downward only', () => {
    expect(imports.filter((each) => isOurs(each.to) && !isAllowed(each)).map(show)).toEqual([]);
  });

  test('are told apart by the check', () => {
    expect(isAllowed({ from: 'src/vhost/a.ts', to: 'src/host/b.ts' })).toBe(true);
    expect(isAllowed({ from: 'src/host/a.ts', to: 'src/vhost/b.ts' })).toBe(false);
    expect(isAllowed({ from: 'src/units.ts', to: 'src/errors.ts' })).toBe(false);
    expect(imports.filter(({ to }) => isOurs(to)).length).toBeGreaterThan(20);
  });

  test('have no cycle in the table', () => {
    const reaches = (layer: string, seen: readonly string[]): boolean =>
      (ALLOWED[layer] ?? []).some((next) => seen.includes(next) || reaches(next, [...seen, next]));
    expect(Object.keys(ALLOWED).filter((layer) => reaches(layer, [layer]))).toEqual([]);
  });

  test('import nothing of the tests', () => {
    expect(imports.filter(({ to }) => to.startsWith('test/')).map(show)).toEqual([]);
  });
});

describe('a package', () => {
  test.each(Object.entries(OWNERS))('%s is imported by its owner only', (name, isOwner) => {
    const users = imports.filter(({ to }) => to === name || to.startsWith(`${name}/`));
    expect(users.filter(({ from }) => !isOwner(from)).map(show)).toEqual([]);
  });

  test('that has no owner is not imported', () => {
    const foreign = imports.filter(
      ({ to }) => !isOurs(to) && !to.startsWith('node:') && OWNERS[to.split('/')[0] ?? ''] === undefined,
    );
    expect(foreign.map(show)).toEqual([]);
  });
});

test('protocol does no I/O: it imports nothing of Node', () => {
  expect(
    imports.filter(({ from, to }) => from.startsWith('protocol/') && to.startsWith('node:')).map(show),
  ).toEqual([]);
});
