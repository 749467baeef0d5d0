/** All cases, in the order they are run. */
import type { ConformanceCase } from '../case.ts';
import { NEGOTIATION_CASES } from './negotiation.ts';

export const CASES: readonly ConformanceCase[] = [...NEGOTIATION_CASES];
