/** The version of this package, from the one place that states it. */
import { createRequire } from 'node:module';

const manifest: unknown = createRequire(import.meta.url)('vhost-user/package.json');

export const VERSION: string =
  typeof manifest === 'object' && manifest !== null && 'version' in manifest
    ? String(manifest.version)
    : 'unknown';
