/** What requests of the front-end do with one ring, whichever thread serves it. */
import type { VringAddr } from '../../protocol/vhost-user-payloads.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import type { VringState } from './vring.ts';

export interface RingControl {
  readonly index: number;
  readonly state: VringState;
  /** @throws {ProtocolError} BAD_VALUE */
  setNum(num: number): void;
  /** @throws {ProtocolError} BAD_VALUE */
  setBase(base: number): void;
  /** @throws {ProtocolError} BAD_VALUE, UNMAPPED; the ring stays as it was */
  setAddr(addr: VringAddr): void;
  /**
   * @param fd the kick, owned from here on; undefined polls instead
   * @throws {ProtocolError} BAD_FDS if it cannot be waited for; the ring stays as it was
   */
  setKick(fd: OwnedFd | undefined): void;
  /** @param fd owned from here on; undefined for none */
  setCall(fd: OwnedFd | undefined): void;
  /** @param fd owned from here on; undefined for none */
  setErr(fd: OwnedFd | undefined): void;
  setEnabled(isEnabled: boolean): void;
  /** Answers what is in flight, stops the ring and lets go of its kick. @returns the next avail index: GET_VRING_BASE */
  stop(): number;
  /** RESET_DEVICE: stopped, and as at the beginning, except that call and err stay. */
  reset(): void;
  /** The session ends: reset, and call and err are let go. Idempotent. */
  close(): void;
}
