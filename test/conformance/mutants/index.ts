/** All mutants. */
import { MEMORY_MUTANTS } from './memory.ts';
import { MESSAGE_MUTANTS } from './messages.ts';
import type { Mutant } from './mutant.ts';
import { RING_MUTANTS } from './rings.ts';
import { VIRTQUEUE_MUTANTS } from './virtqueues.ts';

export const MUTANTS: readonly Mutant[] = [
  ...MESSAGE_MUTANTS,
  ...MEMORY_MUTANTS,
  ...RING_MUTANTS,
  ...VIRTQUEUE_MUTANTS,
];
