/** A root region as somebody sees it: a CPU, a bus master. Several spaces may share a root, or parts of a tree. */
import { MemoryError } from '../errors.ts';
import type { FlatView } from './flat-view.ts';
import { ioeventfdsOf, notifyIoeventfds, type Ioeventfd } from './ioeventfd.ts';
import { insertByPriority, type MemoryListener } from './listener.ts';
import { notifyDifference, replayTo, withdrawFrom, type Registered } from './notify.ts';
import type { Window } from './patch.ts';
import type { MemoryRegion } from './region.ts';
import type { MemoryTopology } from './topology.ts';
import type { ViewEntry } from './view-table.ts';

export class AddressSpace {
  readonly topology: MemoryTopology;
  readonly name: string;
  readonly root: MemoryRegion;
  readonly #listeners: Registered[] = [];
  #view: FlatView;
  #ioeventfds: readonly Ioeventfd[] = [];
  /** How many listeners want to hear of doorbells; without one the list is not kept up to date. */
  #doorbellListeners = 0;
  #nopListeners = 0;
  #areIoeventfdsStale = true;

  /** Made by `MemoryTopology.createAddressSpace`. */
  constructor(topology: MemoryTopology, name: string, root: MemoryRegion, view: FlatView) {
    this.topology = topology;
    this.name = name;
    this.root = root;
    this.#view = view;
  }

  /** What it looks like since the last commit. */
  get view(): FlatView {
    return this.#view;
  }

  get listeners(): readonly Registered[] {
    return this.#listeners;
  }

  /** The doorbells listeners were told of last, in address order. */
  get ioeventfds(): readonly Ioeventfd[] {
    return this.#ioeventfds;
  }

  /** Registers a listener and shows it everything that is there. @throws {MemoryError} BAD_STATE if it is registered */
  addListener(listener: MemoryListener): void {
    const { topology } = this;
    topology.assertEditable();
    if (topology.isRegistered(listener)) {
      throw new MemoryError('BAD_STATE', `listener ${listener.name ?? ''} is registered already`);
    }
    const entry = { listener };
    insertByPriority(this.#listeners, entry);
    topology.register(entry);
    topology.notifying(() =>
      replayTo(listener, this.#view, this.#ioeventfds, topology.tracking.reasons !== 0),
    );
    this.#count(listener, 1);
  }

  /** Takes everything away from a listener, and forgets it. @throws {MemoryError} BAD_STATE if it is not registered here */
  removeListener(listener: MemoryListener): void {
    const { topology } = this;
    topology.assertEditable();
    const index = this.#listeners.findIndex((entry) => entry.listener === listener);
    if (index < 0)
      throw new MemoryError('BAD_STATE', `listener ${listener.name ?? ''} is not registered here`);
    this.#count(listener, -1);
    topology.notifying(() => withdrawFrom(listener, this.#view, this.#ioeventfds));
    topology.unregister(listener);
    this.#listeners.splice(index, 1);
  }

  /** Ends the address space; its listeners must be gone. @throws {MemoryError} BAD_STATE */
  destroy(): void {
    if (this.#listeners.length > 0) {
      throw new MemoryError('BAD_STATE', `${this.name} has ${this.#listeners.length} listeners`);
    }
    this.topology.removeAddressSpace(this);
  }

  /** Tells the listeners what differs, then shows the new view. Called by the topology, at commit. */
  switchTo(next: ViewEntry): void {
    const before = this.#view;
    const { view, windows } = next;
    const isPatch = next.before === before;
    this.#areIoeventfdsStale ||= view !== before && !(isPatch && !touchesIoeventfds(windows));
    try {
      if (this.#nopListeners > 0 || (!isPatch && view !== before && this.#listeners.length > 0)) {
        notifyDifference(this.#listeners, before, view, [{ before: before.ranges, after: view.ranges }]);
      } else if (isPatch && windows.length > 0 && this.#listeners.length > 0) {
        notifyDifference(this.#listeners, before, view, windows);
      }
    } finally {
      this.#view = view;
    }
  }

  /** Doorbells were edited: the list is out of date. */
  noteIoeventfds(): void {
    this.#areIoeventfdsStale = true;
  }

  /** Tells the listeners which doorbells came and went. */
  updateIoeventfds(): void {
    if (this.#doorbellListeners === 0 || !this.#areIoeventfdsStale) return;
    this.#areIoeventfdsStale = false;
    if (this.#ioeventfds.length === 0 && this.topology.ioeventfdCount === 0) return;
    const after = ioeventfdsOf(this.#view);
    notifyIoeventfds(this.#listeners, this.#view, this.#ioeventfds, after);
    this.#ioeventfds = after;
  }

  #count(listener: MemoryListener, by: number): void {
    if (listener.eventfdAdd !== undefined || listener.eventfdDel !== undefined) this.#doorbellListeners += by;
    if (listener.regionNop !== undefined) this.#nopListeners += by;
  }
}

const touchesIoeventfds = (windows: readonly Window[]): boolean =>
  windows.some(
    ({ before, after }) =>
      before.some((range) => range.region.ioeventfds.length > 0) ||
      after.some((range) => range.region.ioeventfds.length > 0),
  );
