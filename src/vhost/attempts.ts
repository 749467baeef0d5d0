/** Steps that are all taken, whatever becomes of each. */
export class Attempts {
  #failure: unknown;

  run(step: () => void): void {
    try {
      step();
    } catch (error) {
      this.#failure ??= error;
    }
  }

  /** @throws the first failure */
  finish(): void {
    if (this.#failure !== undefined) throw this.#failure;
  }
}
