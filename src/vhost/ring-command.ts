/** What one thread has another do with a ring that the other serves. Plain data: it travels as a structured clone. */
import type { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import { OwnedFd } from '../host/owned-fd.ts';
import type { Vring, VringState } from './vring.ts';

/** `fd`: a descriptor that goes with the command, owned by who carries it out; −1 for none. */
export type RingCommand =
  | { readonly name: 'setNum' | 'setBase'; readonly index: number; readonly value: number }
  | { readonly name: 'setAddr'; readonly index: number; readonly addr: VringAddr }
  | { readonly name: 'setKick' | 'setCall' | 'setErr'; readonly index: number; readonly fd: number }
  | { readonly name: 'setEnabled'; readonly index: number; readonly isEnabled: boolean }
  | { readonly name: 'stop' | 'reset' | 'close' | 'state'; readonly index: number };

/** In the order of their numbers as answers. */
export const VRING_STATES: readonly VringState[] = ['stopped', 'armed', 'started', 'broken'];

/**
 * Carries a command out.
 *
 * @returns what the ring's method answers; 0 if nothing; a state's place in `VRING_STATES`
 * @throws {ProtocolError} as the ring's method does
 */
export function carryOut(vring: Vring, command: RingCommand): number {
  switch (command.name) {
    case 'setNum':
      vring.setNum(command.value);
      break;
    case 'setBase':
      vring.setBase(command.value);
      break;
    case 'setAddr':
      vring.setAddr(command.addr);
      break;
    case 'setKick':
      vring.setKick(ownedOrNone(command.fd));
      break;
    case 'setCall':
      vring.setCall(ownedOrNone(command.fd));
      break;
    case 'setErr':
      vring.setErr(ownedOrNone(command.fd));
      break;
    case 'setEnabled':
      vring.setEnabled(command.isEnabled);
      break;
    case 'stop':
      return vring.stop();
    case 'reset':
      vring.reset();
      break;
    case 'close':
      vring.close();
      break;
    case 'state':
      return VRING_STATES.indexOf(vring.state);
  }
  return 0;
}

const ownedOrNone = (fd: number): OwnedFd | undefined => (fd < 0 ? undefined : new OwnedFd(fd));
