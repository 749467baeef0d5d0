/** The first connection: what the back-end offers, and whether it outlives a connection. */
import { hasBit, maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature, VHOST_USER_F_PROTOCOL_FEATURES } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import { waitReadable } from '../host/poll.ts';
import { BackendGone, type BackendFacts, type BackendUnderTest } from './backend.ts';
import { startClock } from './clock.ts';
import type { Device } from './device.ts';
import { Link } from './link.ts';
import { Trace } from './trace.ts';
import { CaseEnd } from './verdict.ts';

/** Memory slots without CONFIGURE_MEM_SLOTS. vhost-user spec § Memory regions description. */
const BASELINE_SLOTS = 8;
/** How long a back-end that ends with its connection may take to do so. */
const ENDING_MS = 300;

/** @throws {BackendGone} if it does not even say what it offers */
export async function survey(
  backend: BackendUnderTest,
  device: Device,
  timeoutMs: number,
): Promise<BackendFacts> {
  const clock = startClock(timeoutMs, 4 * timeoutMs, backend.wait ?? waitReadable);
  let offered;
  {
    using link = new Link(backend.connect(), clock, new Trace());
    try {
      offered = ask(link, device);
    } catch (error) {
      if (!(error instanceof CaseEnd)) throw error;
      throw new BackendGone(`${backend.name} does not say what it offers: ${error.message}`, {
        cause: error,
      });
    }
  }
  return { ...offered, reconnects: !(await endsWithConnection(backend)) };
}

function ask(link: Link, device: Device): Omit<BackendFacts, 'reconnects'> {
  const features = link.ask(R.GET_FEATURES, undefined);
  if (!hasBit(features, VHOST_USER_F_PROTOCOL_FEATURES))
    return { features, protocolFeatures: 0n, queues: device.queues, memSlots: BASELINE_SLOTS };
  const protocolFeatures = link.ask(R.GET_PROTOCOL_FEATURES, undefined);
  const wanted = maskOf(ProtocolFeature.MQ, ProtocolFeature.CONFIGURE_MEM_SLOTS, ProtocolFeature.REPLY_ACK);
  link.send(R.SET_PROTOCOL_FEATURES, protocolFeatures & wanted);
  link.send(R.SET_OWNER, undefined);
  const queues = hasBit(protocolFeatures, ProtocolFeature.MQ)
    ? Number(link.ask(R.GET_QUEUE_NUM, undefined))
    : device.queues;
  const memSlots = hasBit(protocolFeatures, ProtocolFeature.CONFIGURE_MEM_SLOTS)
    ? Number(link.ask(R.GET_MAX_MEM_SLOTS, undefined))
    : BASELINE_SLOTS;
  return { features, protocolFeatures, queues, memSlots };
}

async function endsWithConnection(backend: BackendUnderTest): Promise<boolean> {
  if (backend.pid === undefined) return false;
  const endsAt = performance.now() + ENDING_MS;
  while (performance.now() < endsAt) {
    if (backend.ending() !== undefined) return true;
    await new Promise((done) => setTimeout(done, 10));
  }
  return false;
}
