/** A share as one thread sees it: tables in memory that all its threads see, and what each has for itself. */
import { FuseInitFlag } from '../../protocol/fuse-flags.ts';
import { NativeMemory } from '../host/native-memory.ts';
import { ColdData } from './cold-data.ts';
import { FdBudget } from './fd-budget.ts';
import { FdRing } from './fd-ring.ts';
import { FileHandles } from './file-handles.ts';
import { HandleTable } from './handle-table.ts';
import { Identity } from './identity.ts';
import { InUse } from './in-use.ts';
import { InodeNames } from './inode-names.ts';
import { InodeStore } from './inode-store.ts';
import { InodeTable } from './inode-table.ts';
import { Lingering } from './lingering.ts';
import { LockTable } from './lock-table.ts';
import { MountTable } from './mount-table.ts';
import { OctetPool } from './octet-pool.ts';
import type { CachePolicy, PassthroughOptions } from './options.ts';
import type { Share } from './share.ts';
import { StatBuffer } from './stat-buffer.ts';
import { HeaderWord, type TableMemory } from './table-memory.ts';

const CACHE_SECONDS: { readonly [policy in CachePolicy]: number } = {
  never: 0,
  auto: 1,
  metadata: 86_400,
  always: 86_400,
};
const PATH_MAX = 4096;
const RECORDS_SIZE = 256 * 1024;

/** Bits of the header's flags. */
const ShareFlag = { WRITEBACK: 1, POSIX_ACL: 2, SUBMOUNTS: 4, KILLPRIV: 8 } as const;

export class ShareState implements Share {
  readonly options: PassthroughOptions;
  readonly memory: TableMemory;
  readonly inUse: InUse;
  readonly budget: FdBudget;
  readonly inodes: InodeStore;
  readonly handles: HandleTable;
  readonly identity: Identity;
  readonly locks: LockTable;
  readonly procSelfFd: number;
  readonly cacheSeconds: number;
  readonly records = NativeMemory.allocate(RECORDS_SIZE);
  readonly cold: ColdData | undefined;
  readonly scratch = NativeMemory.allocate(2 * PATH_MAX);
  readonly #header: Int32Array;

  constructor(options: PassthroughOptions, memory: TableMemory, procSelfFd: number) {
    this.options = options;
    const cold = ColdData.open();
    this.cold = typeof cold === 'number' ? undefined : cold;
    this.memory = memory;
    this.procSelfFd = procSelfFd;
    this.#header = memory.header;
    this.identity = new Identity();
    this.inUse = new InUse(memory);
    this.budget = new FdBudget(memory);
    const { inUse, budget } = this;
    const pool = new OctetPool(memory);
    const table = new InodeTable(memory, pool);
    this.inodes = new InodeStore({
      memory,
      inUse,
      table,
      mounts: new MountTable(memory),
      ring: new FdRing(memory, table, budget, inUse),
      lingering: new Lingering(memory),
      names: new InodeNames(memory, table, pool),
      fileHandles: new FileHandles(),
      budget,
      stat: new StatBuffer(),
      procSelfFd,
    });
    this.handles = new HandleTable(memory, inUse);
    this.locks = new LockTable(memory, this.inodes, budget);
    this.cacheSeconds = CACHE_SECONDS[options.cache];
  }

  /** Notes what INIT agreed on, for all threads. */
  agree(flags: bigint): void {
    const has = (flag: bigint, bit: number): number => ((flags & flag) === 0n ? 0 : bit);
    this.#header[HeaderWord.FLAGS] =
      has(FuseInitFlag.WRITEBACK_CACHE, ShareFlag.WRITEBACK) |
      has(FuseInitFlag.POSIX_ACL, ShareFlag.POSIX_ACL) |
      (this.options.announceSubmounts ? has(FuseInitFlag.SUBMOUNTS, ShareFlag.SUBMOUNTS) : 0) |
      has(FuseInitFlag.HANDLE_KILLPRIV_V2, ShareFlag.KILLPRIV);
  }

  get isWriteback(): boolean {
    return (this.#header[HeaderWord.FLAGS]! & ShareFlag.WRITEBACK) !== 0;
  }

  get hasPosixAcl(): boolean {
    return (this.#header[HeaderWord.FLAGS]! & ShareFlag.POSIX_ACL) !== 0;
  }

  get hasSubmounts(): boolean {
    return (this.#header[HeaderWord.FLAGS]! & ShareFlag.SUBMOUNTS) !== 0;
  }

  get hasKillpriv(): boolean {
    return (this.#header[HeaderWord.FLAGS]! & ShareFlag.KILLPRIV) !== 0;
  }
}
