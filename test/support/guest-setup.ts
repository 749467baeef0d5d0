/** Runs once before the guest tests: makes the guest kit, and hands on why there is none. */
import type { TestProject } from 'vitest/node';
import { isKitRequired, makeKit } from './guest-kit.ts';

declare module 'vitest' {
  interface ProvidedContext {
    readonly guestKitMissing: string;
  }
}

export function setup(project: TestProject): void {
  const { missing } = makeKit();
  if (missing !== undefined && isKitRequired()) {
    throw new Error(`VHOST_USER_GUEST=require, but there is no guest kit: ${missing}`);
  }
  if (missing !== undefined) console.log(`guest tests are skipped: ${missing}`);
  project.provide('guestKitMissing', missing ?? '');
}
