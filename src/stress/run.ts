/**
 * One back-end under stress: does operations one by one, follows them in the model, and checks after each what must hold.
 */
import { performance } from 'node:perf_hooks';
import type { Figures } from './figures.ts';
import { type Footprint, footprintOf, NO_MEMORY, surplus } from './footprint.ts';
import { StressModel } from './model.ts';
import { type Access, type MemoryOperation, type Operation, operationText } from './operation.ts';
import { StressMachine, type StressMachineOptions } from './stress-machine.ts';
import type { FinishRead } from './store.ts';
import { asViolation, Violation } from './violation.ts';

interface PendingRead {
  readonly chunk: number;
  readonly finish: FinishRead;
}

export class StressRun implements Disposable {
  readonly model: StressModel;
  readonly figures: Figures;
  /** Regions the back-end says it has room for. */
  readonly advertised: number;
  readonly #machine: StressMachine;
  readonly #options: StressMachineOptions;
  readonly #before: Footprint | undefined;

  /** @throws {Violation} if it cannot be connected to, or mounted */
  constructor(options: StressMachineOptions, figures: Figures) {
    this.#options = options;
    this.figures = figures;
    try {
      this.#machine = new StressMachine(options);
    } catch (error) {
      throw asViolation(error, true, 'connecting');
    }
    this.advertised = this.#machine.advertised;
    this.model = new StressModel(this.#machine.shape, this.#machine.facts);
    const pid = this.#machine.findProcess();
    this.#before = pid === undefined ? undefined : footprintOf(pid);
  }

  /** Whether the back-end's process can be looked at. */
  get seesProcess(): boolean {
    return this.#before !== undefined;
  }

  /**
   * Does an operation, if it can be done here.
   *
   * @returns whether it was
   * @throws {Violation} after which only `isHarmless` ones leave something to go on with
   */
  async apply(operation: Operation): Promise<boolean> {
    if (!this.model.applies(operation)) return false;
    try {
      if (operation.op === 'restart') await this.#restart();
      else this.#do(operation);
    } catch (error) {
      const harmless = error instanceof Violation && error.isHarmless;
      if (!harmless) await new Promise((resolve) => setTimeout(resolve, 50)); // to hear of its end
      throw this.#told(error, operationText(operation));
    }
    this.model.done(operation);
    this.#assertCount();
    return true;
  }

  /**
   * After everything was taken away: what the back-end holds must be what it held at the start; then nothing, once it was
   * left.
   *
   * @throws {Violation} leak; what stopping throws
   */
  async finish(): Promise<void> {
    const pid = this.#machine.findProcess();
    const before = this.#before;
    try {
      if (pid !== undefined && before !== undefined)
        await this.#settled(pid, 'all memory was unplugged again', before);
      this.#machine.stop();
    } catch (error) {
      throw this.#told(error, 'the end of the run');
    }
    this[Symbol.dispose]();
    if (pid !== undefined && this.#options.backend.wait === undefined)
      await this.#settled(pid, 'it was disconnected', NO_MEMORY);
  }

  [Symbol.dispose](): void {
    this.#machine[Symbol.dispose]();
  }

  /** Waits until the process holds no more than it did. @throws {Violation} leak */
  async #settled(pid: number, when: string, before: Footprint): Promise<void> {
    const deadline = performance.now() + this.#options.timeoutMs;
    for (;;) {
      const now = footprintOf(pid);
      const text = now === undefined ? '' : surplus(before, now);
      if (text === '') return;
      if (performance.now() > deadline) throw new Violation('leak', `after ${when}: ${text}`);
      await new Promise((resolve) => setTimeout(resolve, 20));
    }
  }

  #told(error: unknown, doing: string): Violation {
    const violation = asViolation(error, this.#machine.isGone, doing);
    const words = violation.isHarmless ? '' : this.#options.backend.lastWords();
    if (words === '') return violation;
    return new Violation(violation.kind, `${violation.message}. The back-end ${words}`, { cause: error });
  }

  #do(operation: Exclude<Operation, { op: 'restart' }>): void {
    const { figures, model } = this;
    const machine = this.#machine;
    switch (operation.op) {
      case 'map':
        return this.#change(operation, figures.map, () => machine.slots.map(operation.slot));
      case 'unmap':
        return this.#change(operation, figures.unmap, () => this.#unmap(operation.slot));
      case 'plug':
        return this.#change(operation, figures.other, () => machine.plug(operation.dimm));
      case 'unplug':
        return this.#change(operation, figures.other, () => machine.unplug(operation.dimm));
      case 'resize':
        return this.#change(operation, figures.other, () =>
          machine.resize(operation.vmem, operation.units * model.shape.vmemUnit),
        );
      case 'fill':
        for (const slot of model.slotsToFill()) this.#timed(figures.map, () => machine.slots.map(slot));
        return undefined;
      case 'drain':
        for (let slot = 0; slot < model.shape.slots; slot += 1)
          if (model.isMapped(slot)) this.#timed(figures.unmap, () => this.#unmap(slot));
        return undefined;
      case 'beyond':
        return this.#beyond();
      case 'write':
        return this.#timed(figures.write, () =>
          machine.store.write(operation.chunk, operation.version, machine.buffer(operation.place)),
        );
      case 'read':
        return this.#timed(figures.read, () => this.#finishRead(this.#startRead(operation)));
      case 'pause':
        figures.pauses += 1;
        return machine.pause();
      case 'reboot':
        figures.reboots += 1;
        return machine.reboot();
    }
  }

  /** Changes memory while reads are on their way that have nothing to do with what changes. */
  #change(operation: MemoryOperation, durations: Figures['map'], change: () => void): void {
    const reads = this.model.readsDuring(operation).map((access) => this.#startRead(access));
    this.#timed(durations, change);
    for (const read of reads) this.#finishRead(read);
    this.figures.overlapping += reads.length;
  }

  #unmap(slot: number): void {
    this.#machine.slots.unmap(slot);
    this.#machine.slots.discard(slot);
  }

  #beyond(): void {
    const { facts } = this.model;
    this.figures.beyond += 1;
    if (this.#machine.tryBeyond())
      throw new Violation(
        'limit',
        `it says it has room for ${facts.limit} regions, and took ${facts.limit + 1}`,
      );
  }

  async #restart(): Promise<void> {
    const { backend } = this.#options;
    this.figures.restarts += 1;
    try {
      await backend.restart?.();
    } catch (error) {
      throw new Violation('restart', error instanceof Error ? error.message : String(error), {
        cause: error,
      });
    }
    try {
      this.#machine.reconnect();
    } catch (error) {
      const { message } = asViolation(error, true, 'connecting again');
      throw new Violation('restart', message, { cause: error });
    }
  }

  #startRead({ place, chunk }: Access): PendingRead {
    return { chunk, finish: this.#machine.store.startRead(chunk, this.#machine.buffer(place)) };
  }

  #finishRead({ chunk, finish }: PendingRead): void {
    finish(this.model.versionOf(chunk));
  }

  #timed(durations: Figures['map'], action: () => void): void {
    const began = performance.now();
    action();
    durations.add(performance.now() - began);
  }

  /** The model and the machine must agree, or we test something else than we think. */
  #assertCount(): void {
    const { used } = this.#machine;
    this.figures.mostRegions = Math.max(this.figures.mostRegions, used);
    if (used !== this.model.used)
      throw new TypeError(`the machine has ${used} regions, the model of the run ${this.model.used}`);
  }
}
