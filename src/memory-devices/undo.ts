/**
 * Takes back a change of memory that a listener refused. Who cannot take it back either has said so already: the first refusal is
 * the one that counts.
 */
export function undo(change: () => void): void {
  try {
    change();
  } catch {
    // as above
  }
}
