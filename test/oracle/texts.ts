import type { MemoryTopology } from '../../src/memory/topology.ts';
export interface Texts {
  readonly mtree?: string;
  readonly 'mtree-D'?: string;
  readonly 'mtree-f'?: string;
}
export function checkTexts(_t: MemoryTopology, _texts: Texts): void {}
