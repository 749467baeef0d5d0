/** One run: survey, cases, report. */
import { release } from 'node:os';
import { hex } from '../units.ts';
import type { BackendFacts, BackendUnderTest } from './backend.ts';
import type { ConformanceCase } from './case.ts';
import type { Device } from './device.ts';
import type { CaseResult, ConformanceReport } from './report.ts';
import { runCases, TIMEOUT_MS } from './runner.ts';
import { survey } from './survey.ts';

export interface SuiteOptions {
  readonly backend: BackendUnderTest;
  readonly device: Device;
  readonly cases: readonly ConformanceCase[];
  /** How long one answer may take. */
  readonly timeoutMs?: number;
  /** How the back-end was started, or where it listens: for the report. */
  readonly from: string;
  readonly backendVersion: string;
  readonly suiteVersion: string;
  readonly onFacts?: (facts: BackendFacts) => void;
  readonly onResult?: (result: CaseResult) => void;
}

/** @throws {BackendGone} if the back-end cannot be reached */
export async function runSuite(options: SuiteOptions): Promise<ConformanceReport> {
  const { backend, device, cases, timeoutMs = TIMEOUT_MS, onFacts, onResult } = options;
  const startedAt = performance.now();
  const facts = await survey(backend, device, timeoutMs);
  onFacts?.(facts);
  const results = await runCases({
    backend,
    facts,
    device,
    cases,
    timeoutMs,
    ...(onResult === undefined ? {} : { onResult }),
  });
  return {
    backend: {
      name: backend.name,
      from: options.from,
      device: device.name,
      features: hex(facts.features),
      protocolFeatures: hex(facts.protocolFeatures),
      queues: facts.queues,
      memSlots: facts.memSlots,
      reconnects: facts.reconnects,
    },
    versions: {
      backend: options.backendVersion,
      suite: options.suiteVersion,
      node: process.version,
      kernel: release(),
    },
    date: new Date().toISOString(),
    ms: Math.round(performance.now() - startedAt),
    cases: results,
  };
}
