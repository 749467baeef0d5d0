/**
 * The plan command against real QEMU: generated command lines, what QEMU makes of them, and what we say it will.
 *
 * `PLAN_CONFIGS` is how many (30), `PLAN_SEED` which. Only QEMU itself is needed, no guest.
 */
import { execFileSync } from 'node:child_process';
import fc from 'fast-check';
import { describe, expect, test } from 'vitest';
import { parsePlan } from '../../src/memory-devices/plan/config.ts';
import { runSteps } from '../../src/memory-devices/plan/plan.ts';
import { askQemu } from '../support/plan-qemu.ts';

const QEMU = process.env.QEMU ?? 'qemu-system-x86_64';
const CONFIGS = Number(process.env.PLAN_CONFIGS ?? 30);
const SEED = Number(process.env.PLAN_SEED ?? 4);

function hasQemu(): boolean {
  try {
    return /version 1\d\./.test(execFileSync(QEMU, ['--version'], { encoding: 'utf8' }));
  } catch {
    return false;
  }
}

const RAM = 128 * 2 ** 20;
const backend = fc.record({
  driver: fc.constant('vhost-user-fs'),
  protocolFeatures: fc.constantFrom(true, true, true, true, true, false),
  maxMemSlots: fc.constantFrom(null, 1, 2, 3, 4, 5, 8, 9, 64, 508, 509, 509, 509, 510, 512, 1000),
});
const virtioMem = fc.record({
  driver: fc.constant('virtio-mem'),
  size: fc.constantFrom('512M', '1G', '2G', '2176M', '4G', '7G', '60G', '100G', '300G', '333G'),
  dynamicMemslots: fc.constantFrom(true, true, true, false),
  blockSize: fc.constantFrom(null, null, '2M', '128M', '1G', '1M'),
  address: fc.constantFrom(null, null, null, null, null, '0x140000000', '0x200000000', '0x140200000'),
});
const dimm = fc.record({
  driver: fc.constantFrom('pc-dimm', 'pc-dimm', 'nvdimm'),
  size: fc.constantFrom('128M', '1G', '4M', 12288, '2G'),
  address: fc.constantFrom(null, null, null, null, '0x100000000', '0x140000000', '0x100000001', 4096),
  slot: fc.constantFrom(null, null, null, null, 0, 1, 7),
});
const config = fc.record({
  memory: fc.oneof(
    { weight: 1, arbitrary: fc.constant({ size: RAM }) },
    {
      weight: 15,
      arbitrary: fc.record({
        size: fc.constant(RAM),
        maxmem: fc.constantFrom('3G', '8G', '64G', '400G', '600G', '700G', '800G'),
        slots: fc.constantFrom(0, 1, 2, 4, 4, 6, 6, 6),
      }),
    },
  ),
  devices: fc.array(fc.oneof(backend, virtioMem, virtioMem, dimm), { minLength: 1, maxLength: 7 }),
});
const configs = fc.sample(config, { seed: SEED, numRuns: CONFIGS });

const name = hasQemu()
  ? 'a plan says what QEMU does'
  : `a plan says what QEMU does (skipped: no QEMU 10 as ${QEMU})`;
describe.skipIf(!hasQemu())(name, () => {
  test.each(configs.map((generated, index) => [index, generated] as const))(
    'configuration %i',
    async (_, generated) => {
      const plan = parsePlan(JSON.stringify(generated));
      const steps = runSteps(plan);
      const answer = await askQemu(QEMU, plan);
      const refused = steps.find(({ outcome }) => outcome.kind === 'refused');
      const ours =
        refused?.outcome.kind === 'refused'
          ? { refused: refused.device.id, reason: refused.outcome.reason }
          : {
              devices: steps
                .flatMap(({ device, outcome }) =>
                  outcome.kind === 'plugged' && outcome.address !== undefined
                    ? [
                        {
                          id: device.id,
                          address: outcome.address,
                          memslots:
                            device.driver === 'virtio-mem' && device.dynamicMemslots
                              ? outcome.memslots
                              : undefined,
                        },
                      ]
                    : [],
                )
                .sort((a, b) => (a.address < b.address ? -1 : 1)),
            };
      expect(ours, JSON.stringify(generated)).toEqual(answer);
    },
  );
});
