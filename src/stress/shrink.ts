/**
 * Cuts a list that shows a fault down to one that still does: first from the front, then piece by piece (delta
 * debugging), until no single element can be left out or the budget is spent.
 */

export interface ShrinkOptions {
  /** Asked between tries; true ends them. */
  readonly isSpent: () => boolean;
}

export interface Shrunk<T> {
  readonly items: readonly T[];
  /** How often a list was tried. */
  readonly tries: number;
  /** Whether leaving out any single one was tried, and did not show the fault. */
  readonly isMinimal: boolean;
}

/** @param shows whether a list shows the fault; `items` as a whole does */
export async function shrink<T>(
  items: readonly T[],
  shows: (items: readonly T[]) => Promise<boolean>,
  { isSpent }: ShrinkOptions,
): Promise<Shrunk<T>> {
  let tries = 0;
  const attempt = async (list: readonly T[]): Promise<boolean> => {
    tries += 1;
    return shows(list);
  };
  let best = items;
  for (let size = 8; size < items.length && !isSpent(); size *= 4) {
    const tail = items.slice(-size);
    if (!(await attempt(tail))) continue;
    best = tail;
    break;
  }
  for (let size = Math.ceil(best.length / 2); size > 0; size = nextSize(size, best.length)) {
    let isSmaller = false;
    for (let start = 0; start < best.length;) {
      if (isSpent()) return { items: best, tries, isMinimal: false };
      const rest = [...best.slice(0, start), ...best.slice(start + size)];
      if (await attempt(rest)) {
        best = rest;
        isSmaller = true;
      } else start += size;
    }
    if (size === 1 && !isSmaller) break;
  }
  return { items: best, tries, isMinimal: true };
}

/** Half as long a piece; single ones are tried again as long as that helps. */
const nextSize = (size: number, length: number): number => (length === 0 ? 0 : Math.max(1, size >> 1));
