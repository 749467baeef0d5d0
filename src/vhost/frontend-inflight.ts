/** Shared memory in which a back-end notes the requests it works on, so that the next one can finish them. vhost-user spec § Inflight I/O tracking. */
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import type { PayloadValue, Inflight as InflightPayload } from '../../protocol/vhost-user-payloads.ts';
import type { OwnedFd } from '../host/owned-fd.ts';
import type { VhostUserFrontend } from './frontend.ts';

type Description = PayloadValue<typeof InflightPayload>;

/** Outlives connections: made by one back-end, shown to the next; a reset of the device ends it. */
export class InflightBuffer implements Disposable {
  #fd: OwnedFd | undefined;
  #description: Description | undefined;

  /** Before rings are set up. @throws {ProtocolError} what the front-end throws */
  share(frontend: VhostUserFrontend, numQueues: number, queueSize: number): void {
    if (!frontend.hasProtocolFeature(ProtocolFeature.INFLIGHT_SHMFD)) return;
    if (this.#fd === undefined) {
      const { description, fd } = frontend.getInflightFd({ numQueues, queueSize });
      this.#fd = fd;
      this.#description = description;
    }
    if (this.#fd !== undefined)
      frontend.setInflightFd({ ...this.#description!, numQueues, queueSize }, this.#fd.fd);
  }

  /** Idempotent. */
  close(): void {
    this.#fd?.close();
    this.#fd = undefined;
  }

  [Symbol.dispose](): void {
    this.close();
  }
}
