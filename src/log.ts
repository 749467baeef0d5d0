/**
 * The logger libraries are given. Pino's has this shape; only the daemon and the command line make one.
 *
 * Events, not sentences: a field object and a name, as QEMU's trace-events have it when it has one. What peer or guest
 * supplied as text goes under `untrusted` only.
 */
import { hex } from './units.ts';

type Write = (fields: object, event: string) => void;

/** `fatal` we stop · `error` an asked-for action failed · `warn` a peer or guest misbehaved, we coped · `info` once per
 * connection or ring · `debug` per message · `trace` per request. */
export interface Log {
  readonly fatal: Write;
  readonly error: Write;
  readonly warn: Write;
  readonly info: Write;
  readonly debug: Write;
  readonly trace: Write;
}

const ignore: Write = () => undefined;

/** Writes nothing. */
export const SILENT_LOG: Log = {
  fatal: ignore,
  error: ignore,
  warn: ignore,
  info: ignore,
  debug: ignore,
  trace: ignore,
};

const hexOf = (value: unknown): unknown =>
  typeof value === 'bigint' || typeof value === 'number' ? hex(value) : value;

/**
 * Serializers for the logger: addresses, sizes and masks print as hexadecimal text. Pino would print a bigint as a bare
 * JSON number, which readers round above 2^53. They reach top-level keys only, so log no nested address.
 */
export const LOG_SERIALIZERS = {
  gpa: hexOf,
  uva: hexOf,
  offset: hexOf,
  size: hexOf,
  features: hexOf,
  protocolFeatures: hexOf,
  flags: hexOf,
  value: hexOf,
} as const;
