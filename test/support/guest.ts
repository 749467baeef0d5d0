/** `describe` for tests that need the guest kit: skipped, with the reason in the name, where there is none. */
import { describe, inject } from 'vitest';

export function describeGuest(name: string, body: () => void): void {
  const missing = inject('guestKitMissing');
  describe.skipIf(missing !== '')(missing === '' ? name : `${name} (${missing})`, body);
}

/** The same for tests that need more than the kit. */
describeGuest.skipIf = (condition: boolean): typeof describeGuest | typeof describe.skip => {
  return condition ? describe.skip : describeGuest;
};
