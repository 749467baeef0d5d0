/**
 * Whether RAM may be discarded at all in this machine: some need it, some cannot live with it, and some can if they are told.
 *
 * Counted, since there may be several of each. *Coordinated* discarding goes through a discard manager.
 */
import { MemoryDeviceError } from '../errors.ts';

/** Ends what it was given for. Idempotent. */
export type Release = () => void;

export class DiscardPolicy {
  #disabled = 0;
  #uncoordinatedDisabled = 0;
  #required = 0;
  #coordinatedRequired = 0;

  /** Nobody may discard any RAM. @throws {MemoryDeviceError} DISCARD_DISABLED if somebody requires it */
  disable(): Release {
    if (this.#required > 0 || this.#coordinatedRequired > 0) throw refusal('RAM is being discarded');
    return this.#count(
      () => (this.#disabled += 1),
      () => (this.#disabled -= 1),
    );
  }

  /** Nobody may discard RAM without telling. @throws {MemoryDeviceError} DISCARD_DISABLED if somebody does */
  disableUncoordinated(): Release {
    if (this.#required > 0) throw refusal('RAM is being discarded without coordination');
    return this.#count(
      () => (this.#uncoordinatedDisabled += 1),
      () => (this.#uncoordinatedDisabled -= 1),
    );
  }

  /** RAM will be discarded, and nobody is told. @throws {MemoryDeviceError} DISCARD_DISABLED */
  require(): Release {
    if (this.#disabled > 0 || this.#uncoordinatedDisabled > 0) throw refusal('Discarding RAM is disabled');
    return this.#count(
      () => (this.#required += 1),
      () => (this.#required -= 1),
    );
  }

  /** RAM will be discarded through discard managers. @throws {MemoryDeviceError} DISCARD_DISABLED */
  requireCoordinated(): Release {
    if (this.#disabled > 0) throw refusal('Discarding RAM is disabled');
    return this.#count(
      () => (this.#coordinatedRequired += 1),
      () => (this.#coordinatedRequired -= 1),
    );
  }

  #count(begin: () => void, end: () => void): Release {
    begin();
    let isHeld = true;
    return () => {
      if (isHeld) end();
      isHeld = false;
    };
  }
}

const refusal = (text: string): MemoryDeviceError => new MemoryDeviceError('DISCARD_DISABLED', text);
