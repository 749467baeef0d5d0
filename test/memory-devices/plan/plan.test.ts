import { describe, expect, test } from 'vitest';
import { parsePlan } from '../../../src/memory-devices/plan/config.ts';
import { findWorkingOrder } from '../../../src/memory-devices/plan/order.ts';
import { pictureOf } from '../../../src/memory-devices/plan/picture.ts';
import { runSteps } from '../../../src/memory-devices/plan/plan.ts';
import { reportJson, reportOf, reportText, sizeText } from '../../../src/memory-devices/plan/report.ts';
import { codeOf } from '../rig.ts';

const MEMORY = { size: '512M', maxmem: '9G', slots: 4 };
const FS = { driver: 'vhost-user-fs', id: 'fs0', maxMemSlots: 8 };
const VIRTIO_MEM = { driver: 'virtio-mem', id: 'vm0', size: '4G', dynamicMemslots: true };
const DIMM = { driver: 'pc-dimm', id: 'd', size: '128M' };

const plan = (devices: readonly object[], memory: object = MEMORY, more: object = {}) =>
  parsePlan(JSON.stringify({ memory, devices, ...more }));
const idsOf = (order: ReturnType<typeof findWorkingOrder>) =>
  typeof order === 'string' ? order : order.map(({ id }) => id);

describe('a plan', () => {
  test('counts memslots after each step', () => {
    const steps = runSteps(plan([{ ...FS, maxMemSlots: 509 }, VIRTIO_MEM, { ...DIMM, count: 2 }]));
    expect(steps.map(({ device, counts }) => [device.id, counts])).toEqual([
      ['fs0', { limit: 509, used: 1, required: 0, reserved: 0, free: 508 }],
      ['vm0', { limit: 509, used: 1, required: 4, reserved: 4, free: 508 }],
      ['d.0', { limit: 509, used: 2, required: 5, reserved: 4, free: 507 }],
      ['d.1', { limit: 509, used: 3, required: 6, reserved: 4, free: 506 }],
    ]);
  });

  test('names what is refused, and leaves it out', () => {
    const steps = runSteps(
      plan([VIRTIO_MEM, FS, { ...DIMM, size: '8G' }, DIMM].map((each, i) => ({ ...each, id: `x${i}` }))),
    );
    expect(steps.map(({ outcome }) => (outcome.kind === 'refused' ? outcome.code : outcome.address))).toEqual(
      [0x1_0000_0000n, 'BACKEND_RESTRICTS', 'NO_SPACE', 0x2_0000_0000n],
    );
  });

  test.each<[string, readonly object[], number, object]>([
    ['a back-end that comes too late', [VIRTIO_MEM, FS], 8, {}],
    ['a back-end with fewer memslots than are used', [{ ...FS, maxMemSlots: 0 }], 0, {}],
    ['a module no back-end has room for', [{ ...FS, id: 'large' }, { ...FS, maxMemSlots: 1 }, DIMM], 1, {}],
    ['a module the hypervisor has no room for', [DIMM], 1, { hypervisorSlots: 1 }],
  ])('names the limit behind the refusal of %s', (_, devices, limit, more) => {
    const { outcome } = runSteps(plan(devices, MEMORY, more)).at(-1)!;
    expect(outcome).toMatchObject({ kind: 'refused', limit });
  });

  test('has the firmware’s hole in RAM while the machine is paused', () => {
    const used = (plugged: string) => runSteps(plan([{ ...FS, plugged }]))[0]!.counts.used;
    expect(['start', 'paused', 'running'].map(used)).toEqual([1, 2, 1]);
  });

  test('takes nodes of RAM, a hypervisor, and every kind of device', () => {
    const config = plan(
      [
        { driver: 'nvdimm', size: '64M', labelSize: '128K' },
        { driver: 'hv-balloon', size: '1G', address: '32G' },
        { driver: 'virtio-mem', size: '1G', blockSize: '1G' },
        FS,
      ],
      { size: ['256M', '256M'], maxmem: '100G', slots: 1 },
      { hypervisorSlots: 32 },
    );
    const steps = runSteps(config);
    expect(steps.every(({ outcome }) => outcome.kind === 'plugged')).toBe(true);
    expect(steps.at(-1)!.counts).toMatchObject({ used: 4, limit: 8 });
  });
});

describe('a working order', () => {
  test('has the small back-end first', () => {
    expect(idsOf(findWorkingOrder(plan([VIRTIO_MEM, FS])))).toEqual(['fs0', 'vm0']);
  });

  test('puts a device with a wanted address before one that would be there', () => {
    const low = { ...DIMM, id: 'low', address: '0x100000000' };
    expect(idsOf(findWorkingOrder(plan([{ ...DIMM, id: 'any' }, low])))).toEqual(['low', 'any']);
  });

  test('does not exist when there is too little memory, nor across phases', () => {
    expect(findWorkingOrder(plan([{ ...DIMM, count: 5 }]))).toBe('none');
    expect(findWorkingOrder(plan([VIRTIO_MEM, { ...FS, plugged: 'running' }]))).toBe('none');
  });

  test('is not looked for without end', () => {
    const devices = Array.from({ length: 40 }, (_, i) => ({ ...DIMM, id: `d${i}`, size: `${i + 1}M` }));
    const config = plan([...devices, { ...VIRTIO_MEM, size: '16G' }], { ...MEMORY, slots: 64 });
    expect(findWorkingOrder(config)).toBe('unknown');
  });
});

describe('a report', () => {
  test('as text has the reason, the hint and the order that works', () => {
    expect(reportText(reportOf(plan([VIRTIO_MEM, FS]))).split('\n')).toEqual([
      '   device                      where        memslots  used  reserved  free  limit',
      '1  virtio-mem vm0 4G           0x100000000  4 × 1G       1         4     –      –',
      '2  vhost-user-fs fs0, limit 8  refused                   1         4     –      –',
      expect.stringContaining('some memory device (like virtio-mem) decided'),
      '      Try plugging this vhost backend before plugging such memory devices.',
      '',
      'QEMU does not start: fs0 is refused.',
      'This order works: fs0, vm0',
      '',
    ]);
  });

  test('as JSON is what programs need', () => {
    const report = JSON.parse(reportJson(reportOf(plan([VIRTIO_MEM, FS])))) as unknown;
    expect(report).toMatchObject({
      refused: 1,
      workingOrder: ['fs0', 'vm0'],
      steps: [
        { outcome: { address: '0x100000000', memslots: 4 } },
        { outcome: { code: 'BACKEND_RESTRICTS' } },
      ],
    });
  });

  test('as a picture has a bar for each step, and names cannot break out of it', () => {
    const picture = pictureOf(
      reportOf(plan([{ ...FS, id: '<script>' }, VIRTIO_MEM, { ...DIMM, size: '8G' }])),
    );
    expect(picture.match(/<g>/g)).toHaveLength(3);
    expect(picture).toContain('&#60;script&#62;');
    expect(picture).not.toContain('<script>');
    expect(picture).toContain('refused');
  });

  test('as a picture says why a step is refused, what helps, and marks the limit', () => {
    const restricted = pictureOf(reportOf(plan([VIRTIO_MEM, FS])));
    expect(restricted).toContain('some memory device (like virtio-mem) decided');
    expect(restricted).toContain('Try plugging this vhost backend before');
    expect(restricted).toContain('This order works: fs0, vm0');
    expect(restricted).toContain('>refused: limit 8<');
    expect(restricted.match(/<line class="limit"/g)).toHaveLength(1);
    const tooLarge = pictureOf(reportOf(plan([{ ...DIMM, size: '16G' }])));
    expect(tooLarge).toContain('>refused<');
    expect(tooLarge).not.toContain('<line class="limit"');
  });

  test('shows sizes in the largest unit', () => {
    expect([0n, 4096n, 5n << 20n, 1n << 40n].map(sizeText)).toEqual(['0', '4K', '5M', '1T']);
  });
});

describe('a plan that is wrong is refused:', () => {
  test.each<[string, unknown]>([
    ['not an object', []],
    ['no memory', { devices: [] }],
    ['a size that is none', { memory: { size: '12Q' }, devices: [] }],
    ['sockets without room', { memory: { size: '1G', slots: 1 }, devices: [] }],
    ['an unknown field', { memory: MEMORY, devices: [{ ...FS, colour: 'red' }] }],
    ['an unknown driver', { memory: MEMORY, devices: [{ driver: 'toString' }] }],
    ['a module without size', { memory: MEMORY, devices: [{ driver: 'pc-dimm' }] }],
    ['a count that is none', { memory: MEMORY, devices: [{ ...DIMM, count: 1.5 }] }],
    ['a flag that is none', { memory: MEMORY, devices: [{ ...VIRTIO_MEM, dynamicMemslots: 'on' }] }],
    ['two equal ids', { memory: MEMORY, devices: [FS, FS] }],
    ['an unknown phase', { memory: MEMORY, devices: [{ ...FS, plugged: 'later' }] }],
    ['phases out of order', { memory: MEMORY, devices: [{ ...FS, plugged: 'running' }, DIMM] }],
  ])('%s', (_, value) => {
    expect(codeOf(() => parsePlan(JSON.stringify(value)))).toBe('BAD_OPTION');
  });

  test('not JSON', () => {
    expect(codeOf(() => parsePlan('{'))).toBe('BAD_OPTION');
  });
});
