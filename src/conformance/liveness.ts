/** After a case: a good request must still be answered. */
import { maskOf } from '../../protocol/bits.ts';
import { ProtocolFeature } from '../../protocol/vhost-user.ts';
import { FRONTEND_REQUESTS as R } from '../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from './case.ts';
import { negotiate, PROTOCOL_FEATURES } from './negotiate.ts';
import type { Rig } from './rig.ts';
import { hungUp } from './verdict.ts';

/** Without it the memory is told with one SET_MEM_TABLE, which replaces whatever the case has left. */
const TABLE_DIALECT = PROTOCOL_FEATURES & ~maskOf(ProtocolFeature.CONFIGURE_MEM_SLOTS);

/** @throws {CaseEnd} if the back-end has ended, is silent, or does not serve its device any more */
export function checkLiveness(rig: Rig, { aftermath = 'same connection' }: ConformanceCase): void {
  rig.trace.caseEnds();
  const mayBeGone = aftermath === 'new connection';
  if (rig.link.hasEnded() && !mayBeGone) hungUp('afterwards the connection was closed');
  if (mayBeGone) rig.checkEnding();
  const link = mayBeGone ? rig.reconnect() : rig.link;
  if (!link.isAnswering()) hungUp('afterwards the connection was closed');
  if (rig.device.name === 'any') return;
  for (const index of Array.from(link.startedRings)) link.ask(R.GET_VRING_BASE, { index, num: 0 });
  // The memory the rings of the case were in stays: some back-ends look for stopped rings in each new table.
  const guest = rig.lastGuest ?? rig.guest();
  negotiate(link, rig.facts, { protocolFeatures: TABLE_DIALECT });
  guest.shareMemory('table');
  guest.resetRings();
  guest.startRings();
  guest.request();
}
