/**
 * Where the guest kit is, and whether there is one: guest-kit.sh makes it, this file asks it.
 *
 * A machine that cannot have a kit skips the guest tests, with the reason printed; `VHOST_USER_GUEST=require` makes
 * that a failure instead.
 */
import { spawnSync } from 'node:child_process';
import { join, resolve } from 'node:path';
import { fileURLToPath } from 'node:url';

const SCRIPT = fileURLToPath(new URL('guest-kit.sh', import.meta.url));

export const REPOSITORY = fileURLToPath(new URL('../..', import.meta.url));
export const KIT = join(resolve(process.env['VHOST_USER_CACHE'] ?? join(REPOSITORY, '.cache')), 'guest-kit');

export interface KitState {
  /** Why there is no kit; undefined when it is complete. */
  readonly missing: string | undefined;
}

/** Makes the kit complete if this machine can have one, or tells why it cannot. Takes seconds once, then none. */
export function makeKit(): KitState {
  const { status, stderr } = spawnSync('sh', [SCRIPT], { encoding: 'utf8' });
  if (status === 0) return { missing: undefined };
  const lines = stderr.trim().split('\n');
  return { missing: lines.at(-1) ?? `guest-kit.sh ended with ${status}` };
}

export function isKitRequired(): boolean {
  return process.env['VHOST_USER_GUEST'] === 'require';
}
