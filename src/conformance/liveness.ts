/** After a case: a good request must still be answered. */
import { maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from './case.ts';
import type { Link } from './link.ts';
import { PROTOCOL_FEATURES } from './negotiate.ts';
import type { Rig } from './rig.ts';
import { hungUp } from './verdict.ts';

/** Without it the memory is told with one SET_MEM_TABLE, which replaces whatever the case has left. */
const TABLE_DIALECT = PROTOCOL_FEATURES & ~maskOf(ProtocolFeature.CONFIGURE_MEM_SLOTS);

/** @throws {CaseEnd} if the back-end has ended, is silent, or does not serve its device any more */
export function checkLiveness(rig: Rig, { aftermath = 'same connection' }: ConformanceCase): void {
  rig.trace.note('-- afterwards');
  const mayBeGone = aftermath === 'new connection';
  if (rig.link.hasEnded() && !mayBeGone) hungUp('afterwards the connection was closed');
  const link = mayBeGone ? rig.reconnect() : rig.link;
  if (!link.isAnswering()) hungUp('afterwards the connection was closed');
  if (rig.device.name === 'any') return;
  stopRings(link);
  const guest = rig.guest({ protocolFeatures: TABLE_DIALECT });
  guest.negotiate();
  guest.shareMemory('table');
  guest.queues.forEach((_, index) => guest.startRing(index));
  guest.queues.forEach((_, index) => guest.enableRing(index));
  guest.request();
}

/** Rings that run are set up only after they were stopped. */
function stopRings(link: Link): void {
  for (const index of Array.from(link.startedRings)) link.ask(R.GET_VRING_BASE, { index, num: 0 });
}
