/** A plan's result, as one value, as text for people and as JSON for programs. */
import { PLUG_BACKEND_FIRST, vhostUserMemslotLimit } from '../memslot-budget.ts';
import type { PlanConfig, PlannedDevice } from './config.ts';
import { findWorkingOrder, type WorkingOrder } from './order.ts';
import { runSteps, type PlanStep, type SlotCounts } from './plan.ts';

export interface PlanReport {
  readonly steps: readonly PlanStep[];
  /** Devices that were refused. */
  readonly refused: number;
  /** Looked for when something was refused. */
  readonly workingOrder: WorkingOrder | undefined;
}

type Refusal = Extract<PlanStep['outcome'], { kind: 'refused' }>;

export function reportOf(config: PlanConfig): PlanReport {
  const steps = runSteps(config);
  const refused = steps.filter(({ outcome }) => outcome.kind === 'refused').length;
  return { steps, refused, workingOrder: refused === 0 ? undefined : findWorkingOrder(config) };
}

export function reportText(report: PlanReport): string {
  const { steps } = report;
  const heading = ['', 'device', 'where', 'memslots', 'used', 'reserved', 'free', 'limit'];
  const rows = steps.map(({ device, outcome, counts }, index) => [
    String(index + 1),
    titleOf(device),
    outcome.kind === 'refused' ? 'refused' : addressText(outcome.address),
    outcome.kind === 'refused' ? '' : memslotText(outcome.memslots, outcome.memslotSize),
    ...countTexts(counts),
  ]);
  const widths = heading.map((title, column) =>
    Math.max(title.length, ...rows.map((row) => row[column]!.length)),
  );
  const line = (cells: readonly string[]): string =>
    cells
      .map((cell, column) =>
        column === 0 || column > 3 ? cell.padStart(widths[column]!) : cell.padEnd(widths[column]!),
      )
      .join('  ')
      .trimEnd();
  const lines = [line(heading)];
  rows.forEach((row, index) => {
    lines.push(line(row));
    const { outcome } = steps[index]!;
    if (outcome.kind === 'refused') lines.push(...refusalLines(outcome).map((text) => `      ${text}`));
  });
  const ending = endingLines(report);
  return `${[...lines, ...(ending.length > 0 ? ['', ...ending] : [])].join('\n')}\n`;
}

/** Why, and what helps. */
export function refusalLines({ code, reason }: Refusal): string[] {
  return code === 'BACKEND_RESTRICTS' ? [reason, PLUG_BACKEND_FIRST] : [reason];
}

/** What the refusals come to, and the order that works; nothing if nothing is refused. */
export function endingLines({ steps, workingOrder: order }: PlanReport): string[] {
  const first = steps.find(({ outcome }) => outcome.kind === 'refused');
  if (first === undefined || order === undefined) return [];
  const lines =
    first.device.plugged === 'start' ? [`QEMU does not start: ${first.device.id} is refused.`] : [];
  if (order === 'none') return [...lines, 'No order of these devices works.'];
  if (order === 'unknown') return [...lines, 'No order that works was found; there may be one.'];
  return [...lines, `This order works: ${order.map(({ id }) => id).join(', ')}`];
}

/** JSON; addresses and sizes are hexadecimal texts. */
export function reportJson({ steps, refused, workingOrder }: PlanReport): string {
  const order = Array.isArray(workingOrder) ? workingOrder.map(({ id }: PlannedDevice) => id) : workingOrder;
  return `${JSON.stringify(
    { steps: steps.map(stepJson), refused, workingOrder: order },
    (_, value: unknown) => (typeof value === 'bigint' ? `0x${value.toString(16)}` : value),
    2,
  )}\n`;
}

const stepJson = ({ device, outcome, counts }: PlanStep) => ({
  id: device.id,
  driver: device.driver,
  plugged: device.plugged,
  outcome,
  counts,
});

export function titleOf(device: PlannedDevice): string {
  const limit = device.driver === 'vhost-user-fs' ? `, limit ${vhostUserMemslotLimit(device)}` : '';
  const size = 'size' in device ? ` ${sizeText(device.size)}` : '';
  return `${device.driver} ${device.id}${size}${limit}`;
}

const addressText = (address: bigint | undefined): string =>
  address === undefined ? '' : `0x${address.toString(16)}`;

const memslotText = (memslots: number | undefined, size: bigint | undefined): string =>
  memslots === undefined ? '' : size === undefined ? String(memslots) : `${memslots} × ${sizeText(size)}`;

const countTexts = ({ used, reserved, free, limit }: SlotCounts): string[] => [
  String(used),
  String(reserved),
  free === undefined ? '–' : String(free),
  limit === undefined ? '–' : String(limit),
];

/** In the largest unit that leaves a whole number. */
export function sizeText(bytes: bigint): string {
  const units = ['T', 'G', 'M', 'K'] as const;
  const shifts = { T: 40n, G: 30n, M: 20n, K: 10n };
  const unit = units.find((each) => bytes > 0n && bytes % (1n << shifts[each]) === 0n);
  return unit === undefined ? `${bytes}` : `${bytes >> shifts[unit]}${unit}`;
}
