/** Module hooks: threads that a test starts read TypeScript as it is, as vitest's own do. */
import { readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { transformSync } from 'rolldown/utils';

/** What `using` becomes calls this. */
const USING_HELPER = `data:text/javascript,${encodeURIComponent(`
export default function () {
  const undo = [];
  return {
    u: (value) => (value != null && undo.push(value), value),
    d() {
      while (undo.length > 0) undo.pop()[Symbol.dispose]();
      if ('e' in this) throw this.e;
    },
  };
}`)}`;

export function resolve(specifier, context, next) {
  if (specifier === '@oxc-project/runtime/helpers/usingCtx')
    return { url: USING_HELPER, format: 'module', shortCircuit: true };
  return next(specifier, context);
}

export function load(url, context, next) {
  if (!url.endsWith('.ts')) return next(url, context);
  const path = fileURLToPath(url);
  const { code, errors } = transformSync(path, readFileSync(path, 'utf8'), { target: 'node20' });
  if (errors.length > 0) throw new Error(`${path}: ${JSON.stringify(errors)}`);
  return { source: code, format: 'module', shortCircuit: true };
}
