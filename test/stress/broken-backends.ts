/** Back-ends in this thread, right ones and such as were broken on purpose. */
import type { GuestMemory } from '../../src/guest-memory/guest-memory.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import type { BackendSource } from '../../src/stress/backend.ts';
import { InProcessBackend } from '../support/loopback.ts';
import { PaperFileSystem } from '../support/paper-file-system.ts';

/** @param breakIt gets the memory of each back-end that is started */
export function inProcess(
  maxMemSlots: number,
  breakIt: (memory: GuestMemory) => void = () => {},
): BackendSource {
  return {
    name: 'in this thread',
    isFresh: true,
    start: () => {
      const files = new PaperFileSystem();
      const create = (): InProcessBackend => {
        const backend = new InProcessBackend(files, { maxMemSlots });
        breakIt(backend.memory);
        return backend;
      };
      let current = create();
      return Promise.resolve({
        connect: () => new OwnedFd(current.socket.release()),
        wait: () => current.turn(),
        restart: () => {
          current[Symbol.dispose]();
          current = create();
          return Promise.resolve();
        },
        lastWords: () => '',
        stop: () => {
          current[Symbol.dispose]();
          return Promise.resolve();
        },
      });
    },
  };
}

/** Announces fewer regions than it takes. */
export function takesOneTooMany(memory: GuestMemory): void {
  const announced = memory.maxSlots - 1;
  let isAsked = false;
  Object.defineProperty(memory, 'maxSlots', {
    // its own check asks first thing in addRegion; everybody else is the message that announces it
    get: () => (isAsked ? announced + 1 : announced),
  });
  const add = memory.addRegion.bind(memory);
  memory.addRegion = (region, fd) => {
    isAsked = true;
    add(region, fd);
    isAsked = false;
  };
}

/** Takes the region before along when a region goes, every `nth` time. */
export const dropsNeighbour =
  (nth: number) =>
  (memory: GuestMemory): void => {
    let count = 0;
    const remove = memory.removeRegion.bind(memory);
    memory.removeRegion = (region) => {
      remove(region);
      count += 1;
      const neighbour = memory.regions.find(
        ({ guestPhysAddr, memorySize }) => guestPhysAddr + memorySize === region.guestPhysAddr,
      );
      if (count % nth === 0 && neighbour !== undefined) remove(neighbour);
    };
  };

/** Maps the wrong part of the file when the table has `size` regions. */
export const mapsElsewhere =
  (size: number) =>
  (memory: GuestMemory): void => {
    const add = memory.addRegion.bind(memory);
    memory.addRegion = (region, fd) => {
      const isWrong = memory.regions.length === size && region.mmapOffset >= region.memorySize;
      add(isWrong ? { ...region, mmapOffset: region.mmapOffset - region.memorySize } : region, fd);
    };
  };

/** Refuses a region though there is room. */
export const refusesAt =
  (size: number) =>
  (memory: GuestMemory): void => {
    const add = memory.addRegion.bind(memory);
    memory.addRegion = (region, fd) => {
      add(memory.regions.length === size ? { ...region, memorySize: 0n } : region, fd);
    };
  };
