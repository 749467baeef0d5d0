/** What is known of each vring after each message. */

interface Ring {
  readonly num?: number;
  readonly base?: number;
  readonly hasAddresses?: boolean;
  /** A kick has been given and GET_VRING_BASE has not followed. */
  readonly isStarted?: boolean;
  readonly isEnabled?: boolean;
  readonly wasStopped?: boolean;
}

export class RingStates {
  readonly #rings = new Map<number, Ring>();
  #changed = new Set<number>();
  /** Without protocol features there is no SET_VRING_ENABLE: started is enabled. */
  #needsEnable = true;

  setNeedsEnable(needsEnable: boolean): void {
    this.#needsEnable = needsEnable;
  }

  setNum(index: number, num: number): void {
    this.#set(index, { num });
  }

  setBase(index: number, base: number): void {
    this.#set(index, { base });
  }

  setAddresses(index: number): void {
    this.#set(index, { hasAddresses: true });
  }

  start(index: number): void {
    this.#set(index, { isStarted: true, wasStopped: false });
  }

  setEnabled(index: number, isEnabled: boolean): void {
    this.#set(index, { isEnabled });
  }

  /** The back-end has told the base, which stops the ring. */
  stop(index: number, base: number): void {
    this.#set(index, { isStarted: false, wasStopped: true, base });
  }

  /** RESET_DEVICE. */
  reset(): void {
    for (const [index, ring] of this.#rings)
      if (ring.isStarted || ring.isEnabled) this.#set(index, { isStarted: false, isEnabled: false });
  }

  /** Rings whose state is another since the last call, each with what it is now: `ring 0 running, num 1024, base 0`. */
  takeChanges(): readonly string[] {
    const changed = [...this.#changed].sort((a, b) => a - b);
    this.#changed = new Set();
    return changed.map((index) => this.#show(index));
  }

  /** All of them. */
  show(): readonly string[] {
    return [...this.#rings.keys()].sort((a, b) => a - b).map((index) => this.#show(index));
  }

  #set(index: number, change: Ring): void {
    const before = this.#rings.get(index) ?? {};
    const after = { ...before, ...change };
    this.#rings.set(index, after);
    if (this.#word(before) !== this.#word(after)) this.#changed.add(index);
  }

  #word(ring: Ring): string {
    if (ring.isStarted) return ring.isEnabled || !this.#needsEnable ? 'running' : 'started, not enabled';
    if (ring.isEnabled) return 'enabled, not started';
    return ring.wasStopped ? 'stopped' : 'not started';
  }

  #show(index: number): string {
    const ring = this.#rings.get(index)!;
    const details = [
      ring.num === undefined ? '' : `, num ${ring.num}`,
      ring.base === undefined ? '' : `, base ${ring.base}`,
      ring.hasAddresses ? '' : ', no addresses',
    ];
    return `ring ${index} ${this.#word(ring)}${details.join('')}`;
  }
}
