/** A seeded bug: a place in the compiled back-end, and what stands there instead. */

export interface Mutant {
  readonly id: string;
  /** What the back-end does wrong now. */
  readonly bug: string;
  /** The compiled file, without its `.js`. */
  readonly file: string;
  /** Stands there exactly once; any white space matches any other. */
  readonly search: string;
  readonly replace: string;
  /** Cases that should notice, by the beginnings of their ids: run before all others. */
  readonly areas: readonly string[];
}

/** @throws {Error} if what is searched for is not there exactly once: the mutant has to be brought up to date */
export function mutate(source: string, { id, file, search, replace }: Mutant): string {
  const pattern = search
    .trim()
    .split(/\s+/)
    .map((word) => word.replaceAll(/[.*+?^${}()|[\]\\]/g, String.raw`\$&`))
    .join(String.raw`\s+`);
  const places = source.match(new RegExp(pattern, 'g')) ?? [];
  if (places.length !== 1)
    throw new Error(`mutant ${id}: ${file}.js has "${search}" ${places.length} times, allowed once`);
  return source.replace(new RegExp(pattern), () => replace);
}
