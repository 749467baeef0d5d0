/**
 * A node of the region tree. A region has a size and a behaviour; where it is seen is decided by whoever maps it: by its container,
 * as a subregion, or by aliases that show a part of it elsewhere. Regions know no absolute address.
 *
 * Every edit outside a transaction is a transaction of its own. Errors come before any change.
 */
import { MemoryError } from '../errors.ts';
import { holdAlias, releaseAlias } from './alias-use.ts';
import { isInside, isShownBy } from './containment.ts';
import type { CoalescedRange } from './coalesced.ts';
import type { Ioeventfd } from './ioeventfd.ts';
import type { IommuRegion } from './iommu.ts';
import type { RamBlock } from './ram-block.ts';
import { checkDiscardManager, type RamDiscardManager } from './ram-discard.ts';
import {
  checkBlock,
  checkedAddress,
  checkedSize,
  DirtyClient,
  RegionFlag,
  type RegionDescription,
  type RegionKind,
  type RegionOwner,
} from './region-description.ts';
import type { RegionOps } from './region-ops.ts';
import { Subregions } from './subregions.ts';
import type { MemoryTopology } from './topology.ts';

const NO_REGIONS: readonly MemoryRegion[] = [];
const NO_IOEVENTFDS: readonly Ioeventfd[] = [];
const NO_COALESCED: readonly CoalescedRange[] = [];

export class MemoryRegion {
  readonly topology: MemoryTopology;
  readonly kind: RegionKind;
  readonly name: string;
  readonly owner: RegionOwner | undefined;
  /** What an alias shows. */
  readonly target: MemoryRegion | undefined;
  readonly block: RamBlock | undefined;
  readonly ops: RegionOps | undefined;
  readonly iommu: IommuRegion | undefined;
  /** Whether it shows itself: false for containers and aliases. */
  readonly terminates: boolean;

  #size: bigint;
  #address = 0n;
  #aliasOffset: bigint;
  #priority = 0;
  #enabled = true;
  #flags: number;
  #vgaLogging = 0;
  #discardManager: RamDiscardManager | undefined;

  #container: MemoryRegion | undefined;
  /** When it was mapped, compared with its siblings: the newest lies on top among equal priorities. */
  #order = 0;
  #children: Subregions | undefined;

  /** Kept by `alias-use.ts`. */
  aliasUses = 0;
  aliasUsers: Set<MemoryRegion> | undefined = undefined;
  /** Sorted; kept by `ioeventfd.ts`. */
  ioeventfds: readonly Ioeventfd[] = NO_IOEVENTFDS;
  /** In order of addition; kept by `coalesced.ts`. */
  coalesced: readonly CoalescedRange[] = NO_COALESCED;

  /** Made by `MemoryTopology.createRegion`. */
  constructor(topology: MemoryTopology, description: RegionDescription) {
    const { kind, name, owner } = description;
    this.topology = topology;
    this.kind = kind;
    this.name = name;
    this.owner = owner;
    this.#size = checkedSize(description.size);
    this.target = kind === 'alias' ? description.target : undefined;
    this.#aliasOffset = kind === 'alias' ? checkedAddress(description.offset ?? 0n) : 0n;
    this.block = 'block' in description ? description.block : undefined;
    this.ops = 'ops' in description ? description.ops : undefined;
    this.iommu = kind === 'iommu' ? description.iommu : undefined;
    this.terminates = kind !== 'container' && kind !== 'alias';
    this.#flags = RegionFlag.ROMD_MODE | (kind === 'rom' ? RegionFlag.READONLY : 0);
    checkBlock(this, this.#size);
  }

  get size(): bigint {
    return this.#size;
  }
  /** Where it begins in its container; kept when it is taken out. */
  get address(): bigint {
    return this.#address;
  }
  get priority(): number {
    return this.#priority;
  }
  get enabled(): boolean {
    return this.#enabled;
  }
  /** Bits of `RegionFlag`. */
  get flags(): number {
    return this.#flags;
  }
  get readonly(): boolean {
    return (this.#flags & RegionFlag.READONLY) !== 0;
  }
  get nonvolatile(): boolean {
    return (this.#flags & RegionFlag.NONVOLATILE) !== 0;
  }
  get unmergeable(): boolean {
    return (this.#flags & RegionFlag.UNMERGEABLE) !== 0;
  }
  get romdMode(): boolean {
    return (this.#flags & RegionFlag.ROMD_MODE) !== 0;
  }
  /** The byte of the target that an alias shows first. */
  get aliasOffset(): bigint {
    return this.#aliasOffset;
  }
  get container(): MemoryRegion | undefined {
    return this.#container;
  }
  /** Whether its bytes are plain memory: RAM, ROM or RAM of a device. */
  get isRam(): boolean {
    return this.kind === 'ram' || this.kind === 'rom' || this.kind === 'ram-device';
  }
  /** Whether it is in a container, or shown by an alias that is in use. */
  get isMapped(): boolean {
    return this.#container !== undefined || (this.aliasUsers?.size ?? 0) > 0;
  }
  /** When it was mapped, compared with its siblings. */
  get order(): number {
    return this.#order;
  }
  /** All subregions: highest priority first, newest first among equals. */
  get subregions(): readonly MemoryRegion[] {
    return this.#children?.inListOrder ?? NO_REGIONS;
  }
  /** The subregions for searching; absent if it never had one. */
  get subregionIndex(): Subregions | undefined {
    return this.#children;
  }
  /** Bit set of the clients that log writes to this region now. */
  get dirtyMask(): number {
    let mask = this.#vgaLogging > 0 ? 1 << DirtyClient.VGA : 0;
    if (this.block !== undefined || this.kind === 'iommu') mask |= this.topology.dirtyMaskOf(this);
    return mask;
  }
  get vgaLogging(): number {
    return this.#vgaLogging;
  }
  get discardManager(): RamDiscardManager | undefined {
    return this.#discardManager;
  }

  /**
   * Maps `child` at `address` of this region. Overlapping siblings are ordered by `priority`, and by age among equals.
   *
   * @throws {MemoryError} ALREADY_MAPPED, ALIAS_CYCLE, BAD_ADDRESS
   */
  addSubregion(address: bigint, child: MemoryRegion, priority = 0): void {
    checkedAddress(address);
    if (child.#container !== undefined) {
      throw new MemoryError('ALREADY_MAPPED', `${child.name} is in ${child.#container.name} already`);
    }
    const { topology } = this;
    topology.assertEditable();
    if (isInside(this, child)) throw new MemoryError('ALIAS_CYCLE', `${this.name} is inside ${child.name}`);
    const previous = { address: child.#address, priority: child.#priority };
    const showsItself = isShownBy(child, this);
    this.#link(child, address, priority);
    if ((showsItself || topology.isSelfContaining) && !topology.isRenderable(this)) {
      this.#unlink(child);
      child.#address = previous.address;
      child.#priority = previous.priority;
      throw new MemoryError('ALIAS_CYCLE', `${child.name} in ${this.name} would show itself without end`);
    }
    if (showsItself) topology.isSelfContaining = true;
    topology.addressChanged(child);
    topology.edited(this, address, address + child.#size, this.#enabled && child.#enabled);
  }

  /** Takes `child` out; what it hid is seen again. Its address and priority are kept. @throws {MemoryError} NOT_MAPPED */
  removeSubregion(child: MemoryRegion): void {
    if (child.#container !== this) {
      throw new MemoryError('NOT_MAPPED', `${child.name} is not in ${this.name}`);
    }
    this.topology.assertEditable();
    this.#unlink(child);
    const address = child.#address;
    this.topology.edited(this, address, address + child.#size, this.#enabled && child.#enabled);
  }

  setEnabled(enabled: boolean): void {
    if (enabled === this.#enabled) return;
    this.#reshape(
      () => (this.#enabled = enabled),
      () => (this.#enabled = !enabled),
    );
    this.#shapeChanged(this.#size);
  }

  /** @throws {MemoryError} BAD_SIZE, or SIZE_MISMATCH if its RAM block is smaller */
  setSize(size: bigint): void {
    const next = checkedSize(size);
    const old = this.#size;
    if (next === old) return;
    checkBlock(this, next);
    this.#reshape(
      () => (this.#size = next),
      () => (this.#size = old),
    );
    this.#shapeChanged(next > old ? next : old);
  }

  /** Moves it in its container, where it becomes the newest of its priority. @throws {MemoryError} BAD_ADDRESS, ALIAS_CYCLE */
  setAddress(address: bigint): void {
    checkedAddress(address);
    const old = this.#address;
    if (address === old) return;
    const order = this.#order;
    this.#reshape(
      () => {
        this.#address = address;
        this.#order = this.topology.nextOrder();
      },
      () => {
        this.#address = old;
        this.#order = order;
      },
    );
    this.topology.addressChanged(this);
    const container = this.#container;
    if (container === undefined) return;
    const isSeen = this.#enabled && container.#enabled;
    if (isSeen) this.topology.noteDamage(container, old, old + this.#size);
    this.topology.edited(container, address, address + this.#size, isSeen);
  }

  /** Changes which part of its target an alias shows. @throws {MemoryError} WRONG_KIND, BAD_ADDRESS */
  setAliasOffset(offset: bigint): void {
    if (this.kind !== 'alias') throw new MemoryError('WRONG_KIND', `${this.name} is not an alias`);
    checkedAddress(offset);
    const old = this.#aliasOffset;
    if (offset === old) return;
    this.#reshape(
      () => (this.#aliasOffset = offset),
      () => (this.#aliasOffset = old),
    );
    this.#attributeChanged();
  }

  setReadonly(isReadonly: boolean): void {
    this.#setFlag(RegionFlag.READONLY, isReadonly);
  }

  setNonvolatile(isNonvolatile: boolean): void {
    this.#setFlag(RegionFlag.NONVOLATILE, isNonvolatile);
  }

  /** Keeps what it shows apart from its neighbours. Meant for aliases that are memslots. */
  setUnmergeable(isUnmergeable: boolean): void {
    this.#setFlag(RegionFlag.UNMERGEABLE, isUnmergeable);
  }

  /** A ROM device answers reads like memory (true) or by its ops (false). */
  setRomdMode(romdMode: boolean): void {
    this.#setFlag(RegionFlag.ROMD_MODE, romdMode);
  }

  /** Counts those who want writes logged for the display; the topology changes at 0 ↔ 1. @throws {MemoryError} BAD_STATE */
  setVgaLogging(isLogging: boolean): void {
    if (!isLogging && this.#vgaLogging === 0)
      throw new MemoryError('BAD_STATE', `${this.name} is not logged`);
    this.topology.assertEditable();
    const before = this.#vgaLogging;
    this.#vgaLogging += isLogging ? 1 : -1;
    if (before > 0 !== this.#vgaLogging > 0) this.#attributeChanged();
  }

  /**
   * Gives the region its discard manager, or takes it away.
   *
   * @throws {MemoryError} WRONG_KIND if it is not RAM; DISCARD_MANAGER if it is mapped, or has another manager
   */
  setDiscardManager(manager: RamDiscardManager | undefined): void {
    checkDiscardManager(this, manager);
    this.#discardManager = manager;
  }

  /** It may come, go, shrink or grow. Noted where it is now, too: before the commit it may be moved unseen. */
  #shapeChanged(size: bigint): void {
    const { topology } = this;
    if (this.#container !== undefined)
      topology.noteDamage(this.#container, this.#address, this.#address + size);
    topology.edited(this, 0n, size, true);
  }

  #setFlag(flag: number, value: boolean): void {
    const flags = value ? this.#flags | flag : this.#flags & ~flag;
    if (flags === this.#flags) return;
    this.topology.assertEditable();
    this.#flags = flags;
    this.#attributeChanged();
  }

  #attributeChanged(): void {
    this.topology.edited(this, 0n, this.#size, this.#enabled);
  }

  /** Makes an edit that moves what is shown; where aliases show themselves, takes it back if rendering would not end. */
  #reshape(apply: () => void, undo: () => void): void {
    const { topology } = this;
    topology.assertEditable();
    this.#reindexed(apply);
    if (!topology.isSelfContaining || topology.isRenderable(this)) return;
    this.#reindexed(undo);
    throw new MemoryError('ALIAS_CYCLE', `${this.name} would show itself without end`);
  }

  #link(child: MemoryRegion, address: bigint, priority: number): void {
    child.#container = this;
    child.#address = address;
    child.#priority = priority;
    child.#order = this.topology.nextOrder();
    (this.#children ??= new Subregions()).add(child);
    holdAlias(child);
  }

  #unlink(child: MemoryRegion): void {
    this.#children?.remove(child);
    child.#container = undefined;
    releaseAlias(child);
  }

  /** Changes what the container's index knows of this region. */
  #reindexed(change: () => void): void {
    const siblings = this.#container?.subregionIndex;
    siblings?.remove(this);
    change();
    siblings?.add(this);
  }
}
