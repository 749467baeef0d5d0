/**
 * What a stress run does, as data: each operation says all there is to it, so that a list of them can be written to a
 * file, cut down and run again. An operation that cannot be done where a list has come to (a slot that is not there is
 * to be removed) is left out; see model.ts.
 */

/** The guest memory that a run uses, beside RAM. Sizes are bytes. */
export interface StressShape {
  /** Memslots over one sparse file, mapped at will. */
  readonly slots: number;
  readonly slotSize: number;
  /** Memory modules that come and go. */
  readonly dimms: number;
  readonly dimmSize: number;
  /** virtio-mem devices that are resized, in units of `vmemUnit`. */
  readonly vmems: number;
  readonly vmemSize: number;
  readonly vmemUnit: number;
  /** The file is so many chunks of `chunkSize`; each request carries one. */
  readonly chunks: number;
  readonly chunkSize: number;
}

/** Where a buffer is: which piece of memory, and how many bytes into it. */
export interface Place {
  readonly in: 'ram' | 'slot' | 'dimm' | 'vmem';
  readonly index: number;
  readonly at: number;
}

/** A read that is on its way while memory changes elsewhere. */
export interface Access {
  readonly place: Place;
  readonly chunk: number;
}

/** Changes of memory. Reads in `during` are begun before and finished after. */
export type MemoryOperation =
  | { readonly op: 'map'; readonly slot: number; readonly during?: readonly Access[] }
  | { readonly op: 'unmap'; readonly slot: number; readonly during?: readonly Access[] }
  | { readonly op: 'plug'; readonly dimm: number; readonly during?: readonly Access[] }
  | { readonly op: 'unplug'; readonly dimm: number; readonly during?: readonly Access[] }
  | {
      readonly op: 'resize';
      readonly vmem: number;
      /** What it is to have afterwards. */
      readonly units: number;
      readonly during?: readonly Access[];
    };

export type Operation =
  | MemoryOperation
  /** Maps slots until the back-end’s table is full. */
  | { readonly op: 'fill' }
  /** Unmaps all slots. */
  | { readonly op: 'drain' }
  /** One region more than a full table has room for: must be refused. */
  | { readonly op: 'beyond' }
  /** A chunk of the file from there; `version` makes the octets unlike those before. */
  | { readonly op: 'write'; readonly place: Place; readonly chunk: number; readonly version: number }
  /** A chunk of the file to there: must be what was written last. */
  | { readonly op: 'read'; readonly place: Place; readonly chunk: number }
  /** The machine stops and runs on. */
  | { readonly op: 'pause' }
  /** The machine is reset. */
  | { readonly op: 'reboot' }
  /** The back-end is killed, started again and connected to. */
  | { readonly op: 'restart' };

export type OperationName = Operation['op'];

/** One operation in a few words. */
export function operationText(operation: Operation): string {
  switch (operation.op) {
    case 'map':
    case 'unmap':
      return `${operation.op} slot ${operation.slot}${duringText(operation)}`;
    case 'plug':
    case 'unplug':
      return `${operation.op} dimm ${operation.dimm}${duringText(operation)}`;
    case 'resize':
      return `resize virtio-mem ${operation.vmem} to ${operation.units} units${duringText(operation)}`;
    case 'write':
      return `write chunk ${operation.chunk} from ${placeText(operation.place)}`;
    case 'read':
      return `read chunk ${operation.chunk} into ${placeText(operation.place)}`;
    default:
      return TEXTS[operation.op];
  }
}

const TEXTS = {
  fill: 'map slots until the table is full',
  drain: 'unmap all slots',
  beyond: 'one region more than the limit',
  pause: 'stop the machine and let it run on',
  reboot: 'reset the machine',
  restart: 'kill the back-end and start it again',
} as const;

const duringText = ({ during = [] }: MemoryOperation): string =>
  during.length === 0
    ? ''
    : `, meanwhile read ${during.map(({ place, chunk }) => `chunk ${chunk} into ${placeText(place)}`).join(', ')}`;

const placeText = ({ in: kind, index, at }: Place): string =>
  kind === 'ram' ? `RAM+${at}` : `${kind} ${index}+${at}`;
