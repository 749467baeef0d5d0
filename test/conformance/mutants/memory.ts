/** Bugs in the memory table and the dirty log. */
import type { Mutant } from './mutant.ts';

const MEMORY = 'src/guest-memory/guest-memory';
const REGION = 'src/guest-memory/region';
const TABLE = 'src/guest-memory/region-table';
const LOG = 'src/guest-memory/dirty-log';
const HANDLERS = 'src/vhost/backend-memory';
const SCHEDULER = 'src/vhost/vring-scheduler';
const QUEUE = 'src/virtio/virtqueue';

export const MEMORY_MUTANTS: readonly Mutant[] = [
  {
    id: 'slot-limit-not-enforced',
    bug: 'more regions are added than the limit that was named',
    file: MEMORY,
    search: 'if (this.#table.count >= limit)',
    replace: 'if (false)',
    areas: ['memory.limit'],
  },
  {
    id: 'slot-limit-one-more',
    bug: 'one region more is added than the limit that was named',
    file: MEMORY,
    search: 'if (this.#table.count >= limit)',
    replace: 'if (this.#table.count > limit)',
    areas: ['memory.limit'],
  },
  {
    id: 'slot-limit-overstated',
    bug: 'GET_MAX_MEM_SLOTS names one more than is accepted',
    file: HANDLERS,
    search: 'BigInt(state.memory.maxSlots)',
    replace: 'BigInt(state.memory.maxSlots + 1)',
    areas: ['memory.limit'],
  },
  {
    id: 'overlap-accepted',
    bug: 'regions may overlap',
    file: TABLE,
    search: `if (next !== undefined && next.gpa < gpa + size)
      return next;
      return this.#regions[this.find(gpa)];`,
    replace: 'return undefined;',
    areas: ['memory.add', 'memory.table'],
  },
  {
    id: 'overlap-from-below-accepted',
    bug: 'a region that begins within another is accepted',
    file: TABLE,
    search: 'return this.#regions[this.find(gpa)];',
    replace: 'return undefined;',
    areas: ['memory.add', 'memory.table'],
  },
  {
    id: 'rem-ignores-user-address',
    bug: 'REM_MEM_REG removes a region with another user address',
    file: MEMORY,
    search: '&& a.userspaceAddr === b.userspaceAddr',
    replace: '',
    areas: ['memory.remove'],
  },
  {
    id: 'rem-ignores-size',
    bug: 'REM_MEM_REG removes a region of another size',
    file: MEMORY,
    search: 'a.memorySize === b.memorySize &&',
    replace: '',
    areas: ['memory.remove'],
  },
  {
    id: 'rem-unknown-acknowledged',
    bug: 'REM_MEM_REG of a region that is not there is acknowledged',
    file: HANDLERS,
    search: 'state.memory.removeRegion(region);',
    replace: 'try { state.memory.removeRegion(region); } catch {}',
    areas: ['memory.remove'],
  },
  {
    id: 'rem-checks-offset',
    bug: 'REM_MEM_REG is refused if the offset is not the one it was added with',
    file: MEMORY,
    search: 'a.memorySize === b.memorySize &&',
    replace: 'a.memorySize === b.memorySize && a.mmapOffset === b.mmapOffset &&',
    areas: ['memory.remove'],
  },
  {
    id: 'rem-leaves-region-mapped',
    bug: 'a removed region stays mapped',
    file: MEMORY,
    search: 'const unmapped = arena.unmap(found.address, found.mappedSize);',
    replace: 'const unmapped = 0;',
    areas: ['memory.remove', 'memory.use', 'memory.cycles'],
  },
  {
    id: 'rem-leaves-region-in-table',
    bug: 'a removed region can still be reached',
    file: HANDLERS,
    search: 'state.memory.removeRegion(region);',
    replace: 'void region;',
    areas: ['memory.remove', 'memory.use'],
  },
  {
    id: 'table-adds',
    bug: 'SET_MEM_TABLE does not remove the regions that were there',
    file: HANDLERS,
    search: 'state.memory.replaceAll(regions, fds.splice(0));',
    replace: 'regions.forEach((region) => state.memory.addRegion(region, fds.shift()));',
    areas: ['memory.table'],
  },
  {
    id: 'table-half-done',
    bug: 'a SET_MEM_TABLE that is refused has removed the old regions',
    file: HANDLERS,
    search: 'state.memory.replaceAll(regions, fds.splice(0));',
    replace: 'state.memory.clear(); state.memory.replaceAll(regions, fds.splice(0));',
    areas: ['ring.memory', 'memory.table'],
  },
  {
    id: 'region-beyond-file',
    bug: 'a region may be larger than its file',
    file: REGION,
    search: 'if (offset + size > fileSize)',
    replace: 'if (false)',
    areas: ['memory.add', 'memory.table'],
  },
  {
    id: 'region-user-address-wraps',
    bug: 'a region may wrap around the end of the user address space',
    file: REGION,
    search: 'if (userspaceAddr + memorySize > END_OF_64_BITS)',
    replace: 'if (false)',
    areas: ['memory.add', 'memory.table'],
  },
  {
    id: 'mmap-offset-ignored',
    bug: 'regions are mapped from the beginning of their file',
    file: REGION,
    search: 'return { fd, offset, size: Math.ceil(size / pageSize) * pageSize, pageSize };',
    replace: 'return { fd, offset: 0, size: Math.ceil(size / pageSize) * pageSize, pageSize };',
    areas: ['memory.use', 'memory.add'],
  },
  {
    id: 'memory-change-unnoticed',
    bug: 'rings are not looked for in the memory that is added',
    file: HANDLERS,
    search: `state.memory.addRegion(region, theFd(fds));
      state.memoryChanged();`,
    replace: 'state.memory.addRegion(region, theFd(fds));',
    areas: ['ring.memory'],
  },
  {
    id: 'user-address-of-wrong-region',
    bug: 'ring addresses are taken for guest physical ones',
    file: MEMORY,
    search:
      'return region === undefined ? -1 : region.address + Number(uva - region.described.userspaceAddr);',
    replace: 'return region === undefined ? -1 : region.address;',
    areas: ['ring.start'],
  },
  {
    id: 'log-data-forgotten',
    bug: 'what requests write is not logged',
    file: SCHEDULER,
    search: `if (this.isLogging)
      logWritten(this.#memory, chain, written);
      queue.pushUsed(chain.head, written);`,
    replace: 'queue.pushUsed(chain.head, written);',
    areas: ['log'],
  },
  {
    id: 'log-used-ring-forgotten',
    bug: 'used elements are not logged',
    file: QUEUE,
    search: 'this.#memory.markDirty(this.#usedGpa + 4 * word, 8);',
    replace: 'void word;',
    areas: ['ring.log', 'log'],
  },
  {
    id: 'log-used-index-forgotten',
    bug: 'the used index is not logged',
    file: QUEUE,
    search: 'this.#memory.markDirty(this.#usedGpa, 4);',
    replace: 'void 0;',
    areas: ['ring.log', 'log'],
  },
  {
    id: 'log-first-page-only',
    bug: 'of a write across pages only the first page is logged',
    file: LOG,
    search: 'const lastPage = Math.floor((gpa + size - 1) / LOG_PAGE);',
    replace: 'const lastPage = firstPage;',
    areas: ['ring.log', 'log'],
  },
  {
    id: 'log-bits-reversed',
    bug: 'the log counts its bits from the wrong end',
    file: LOG,
    search: 'Atomics.or(bytes, i, mask);',
    replace:
      'Atomics.or(bytes, i, [0, 1, 2, 3, 4, 5, 6, 7].reduce((m, b) => m | ((mask >> b) & 1) << (7 - b), 0));',
    areas: ['log'],
  },
  {
    id: 'log-offset-ignored',
    bug: 'the log is written from the beginning of its file',
    file: LOG,
    search: 'const skipped = Number(offset) % pageSize;',
    replace: 'const skipped = 0; offset = 0n;',
    areas: ['log'],
  },
  {
    id: 'log-without-log-all',
    bug: 'the log is written although LOG_ALL is not set',
    file: 'src/vhost/backend-state',
    search: 'isLogging: this.memory.isLogging && this.hasFeature(VHOST_F_LOG_ALL),',
    replace: 'isLogging: this.memory.isLogging,',
    areas: ['log'],
  },
  {
    id: 'log-page-of-16-kib',
    bug: 'the log has pages of another size',
    file: LOG,
    search: 'const LOG_PAGE = 4096;',
    replace: 'const LOG_PAGE = 16384;',
    areas: ['log'],
  },
];
