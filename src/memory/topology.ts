/**
 * The whole of one machine's memory: every region, address space and listener, and the transactions that change them.
 *
 * Edits take effect at the commit of the outermost transaction. Until then views, `find` and new listeners see the old state.
 */
import { MemoryError } from '../errors.ts';
import { AddressSpace } from './address-space.ts';
import { holdAlias, releaseAlias } from './alias-use.ts';
import { Damage } from './damage.ts';
import { DirtyTracking } from './dirty-tracking.ts';
import { insertByPriority, type MemoryListener } from './listener.ts';
import type { Registered } from './notify.ts';
import { MemoryRegion } from './region.ts';
import { DirtyClient, type RegionDescription } from './region-description.ts';
import { isRenderable } from './render.ts';
import { ViewTable } from './view-table.ts';

export interface TopologyOptions {
  /** Whether writes to all RAM are logged for translated code, as under TCG. Default false. */
  readonly logsCode?: boolean;
  /** Renders all views anew at every commit, as QEMU does. Default false; the result is the same. */
  readonly rendersAll?: boolean;
}

export class MemoryTopology {
  /** Writes logged everywhere: migration and its like. */
  readonly tracking: DirtyTracking;
  /** Some region is shown inside itself: edits must be checked not to make that endless. Set by regions. */
  isSelfContaining = false;
  /** Set by an accelerator that queues writes to coalesced ranges: delivers them. Called before such a region is accessed. */
  flushCoalesced: (() => void) | undefined;

  readonly #options: TopologyOptions;
  readonly #spaces: AddressSpace[] = [];
  readonly #spaceOfRoot = new Map<MemoryRegion, AddressSpace>();
  readonly #listeners: Registered[] = [];
  readonly #views = new ViewTable();
  readonly #damage = new Damage();
  #order = 0;
  #depth = 0;
  #isPending = false;
  #areIoeventfdsPending = false;
  #ioeventfdCount = 0;
  #isNotifying = false;

  constructor(options: TopologyOptions = {}) {
    this.#options = options;
    this.tracking = new DirtyTracking({
      listeners: this.#listeners,
      notifying: (call) => {
        this.notifying(call);
      },
      refresh: () => {
        this.#damage.noteEverything();
        this.#isPending = true;
        if (this.#depth === 0) this.#settle();
      },
    });
  }

  /** In order of creation: the order in which they are updated. */
  get addressSpaces(): readonly AddressSpace[] {
    return this.#spaces;
  }
  /** All listeners of all address spaces, by priority. */
  get listeners(): readonly Registered[] {
    return this.#listeners;
  }
  /** Doorbells of all regions. */
  get ioeventfdCount(): number {
    return this.#ioeventfdCount;
  }
  /** Whether a transaction is open. */
  get isInTransaction(): boolean {
    return this.#depth > 0;
  }

  /** @throws {MemoryError} BAD_SIZE, BAD_ADDRESS, SIZE_MISMATCH */
  createRegion(description: RegionDescription): MemoryRegion {
    return new MemoryRegion(this, description);
  }

  /** An address space that shows `root` as it is, also inside a transaction. */
  createAddressSpace(name: string, root: MemoryRegion): AddressSpace {
    this.assertEditable();
    const space = new AddressSpace(this, name, root, this.#views.entryFor(root).view);
    holdAlias(root);
    this.#spaces.push(space);
    if (!this.#spaceOfRoot.has(root)) this.#spaceOfRoot.set(root, space);
    return space;
  }

  /** Opens a transaction; they nest. */
  begin(): void {
    this.assertEditable();
    this.#depth += 1;
  }

  /** Closes a transaction; the outermost one puts all edits into effect. @throws {MemoryError} UNBALANCED */
  commit(): void {
    if (this.#depth === 0) throw new MemoryError('UNBALANCED', 'commit without begin');
    this.#depth -= 1;
    if (this.#depth === 0) this.#settle();
  }

  /** Runs `edits` as one transaction. What they did before an exception is committed. */
  transaction<T>(edits: () => T): T {
    this.begin();
    try {
      return edits();
    } finally {
      this.commit();
    }
  }

  /** The first address space whose root this is. */
  spaceOf(root: MemoryRegion): AddressSpace | undefined {
    return this.#spaceOfRoot.get(root);
  }

  // What follows is called by the other files of this folder.

  /** @throws {MemoryError} BUSY while listeners are being told */
  assertEditable(): void {
    if (this.#isNotifying)
      throw new MemoryError('BUSY', 'a listener edits the topology it is being told about');
  }

  /** An edit was made to [start, end) of `region`; `isSeen`: as far as the regions themselves tell, it can show. */
  edited(region: MemoryRegion, start: bigint, end: bigint, isSeen: boolean): void {
    if (!isSeen) return;
    this.#damage.note(region, start, end);
    this.#isPending = true;
    if (this.#depth === 0) this.#settle();
  }

  /** [start, end) of `region` may look different, by an edit that is being made. */
  noteDamage(region: MemoryRegion, start: bigint, end: bigint): void {
    this.#damage.note(region, start, end);
  }

  addressChanged(region: MemoryRegion): void {
    this.#views.noteMoved(region);
  }

  /** A doorbell was added to (+1) or removed from (−1) a region. */
  ioeventfdsEdited(region: MemoryRegion, by: number): void {
    this.#ioeventfdCount += by;
    for (const space of this.#spaces) space.noteIoeventfds();
    if (region.enabled) this.#areIoeventfdsPending = true;
    if (this.#depth === 0) this.#settle();
  }

  nextOrder(): number {
    this.#order += 1;
    return this.#order;
  }

  isRenderable(region: MemoryRegion): boolean {
    return isRenderable(region);
  }

  /** Bits of the clients that log this region because of what it is. */
  dirtyMaskOf(region: MemoryRegion): number {
    const { block } = region;
    let mask = 0;
    if (this.tracking.reasons !== 0 && (block?.isMigratable === true || region.kind === 'iommu')) {
      mask |= 1 << DirtyClient.MIGRATION;
    }
    if (this.#options.logsCode === true && block !== undefined) mask |= 1 << DirtyClient.CODE;
    return mask;
  }

  isRegistered(listener: MemoryListener): boolean {
    return this.#listeners.some((entry) => entry.listener === listener);
  }

  register(entry: Registered): void {
    insertByPriority(this.#listeners, entry);
  }

  unregister(listener: MemoryListener): void {
    this.#listeners.splice(
      this.#listeners.findIndex((entry) => entry.listener === listener),
      1,
    );
  }

  removeAddressSpace(space: AddressSpace): void {
    this.assertEditable();
    this.#spaces.splice(this.#spaces.indexOf(space), 1);
    releaseAlias(space.root);
    if (this.#spaceOfRoot.get(space.root) !== space) return;
    this.#spaceOfRoot.delete(space.root);
    const next = this.#spaces.find((other) => other.root === space.root);
    if (next !== undefined) this.#spaceOfRoot.set(space.root, next);
  }

  /** Calls listeners; edits they try meanwhile are refused. */
  notifying(call: () => void): void {
    this.assertEditable();
    this.#isNotifying = true;
    try {
      call();
    } finally {
      this.#isNotifying = false;
    }
  }

  /** Puts what is pending into effect. */
  #settle(): void {
    if (this.#isPending) {
      this.#isPending = false;
      this.#areIoeventfdsPending = false;
      this.#updateViews();
    } else if (this.#areIoeventfdsPending) {
      this.#areIoeventfdsPending = false;
      this.notifying(() => {
        for (const space of this.#spaces) space.updateIoeventfds();
      });
    }
  }

  #updateViews(): void {
    if (this.#options.rendersAll === true) this.#damage.noteEverything();
    this.#views.update(this.#spaces, this.#damage);
    // a callback that throws is a defect of its listener: the others still hear everything, and every view is switched
    const failures: unknown[] = [];
    const attempt = (call: () => void): void => {
      try {
        call();
      } catch (error) {
        failures.push(error);
      }
    };
    this.notifying(() => {
      for (const { listener } of this.#listeners) attempt(() => listener.begin?.());
      for (const space of this.#spaces) {
        attempt(() => {
          space.switchTo(this.#views.entryFor(space.root));
          space.updateIoeventfds();
        });
      }
      for (const { listener } of this.#listeners) attempt(() => listener.commit?.());
    });
    this.#views.release();
    if (failures.length > 0) throw failures[0];
  }
}
