/** Features, protocol features, ownership: the beginning of a conversation. */
import { hasBit, maskOf } from '../../../protocol/bits.ts';
import { FRONTEND_REQUESTS as R } from '../../../protocol/vhost-user-requests.ts';
import type { ConformanceCase } from '../case.ts';
import { check } from '../verdict.ts';

export const NEGOTIATION_CASES: readonly ConformanceCase[] = [
  {
    id: 'negotiation.features.stable',
    title: 'GET_FEATURES answers the same each time, before and after SET_OWNER',
    level: 'must',
    spec: {
      section: 'vhost-user § VHOST_USER_GET_FEATURES',
      says: 'the answer is the mask of features of the back-end',
    },
    expected: 'three equal answers',
    run: (rig) => {
      const first = rig.link.ask(R.GET_FEATURES, undefined);
      rig.link.send(R.SET_OWNER, undefined);
      const second = rig.link.ask(R.GET_FEATURES, undefined);
      const third = rig.link.ask(R.GET_FEATURES, undefined);
      check(first === second && second === third, `0x${first.toString(16)}, then 0x${second.toString(16)}`);
    },
  },
  {
    id: 'negotiation.features.unoffered',
    title: 'SET_FEATURES with a bit that was not offered is refused',
    level: 'robustness',
    spec: {
      section: 'vhost-user § VHOST_USER_SET_FEATURES',
      says: 'the front-end enables features of those the back-end has named',
    },
    expected: 'a non-zero ack, and the connection lives on',
    needs: { protocolFeatures: ['REPLY_ACK'] },
    run: (rig) => {
      const link = rig.negotiate();
      const missing = Array.from({ length: 64 }, (_, bit) => bit).find(
        (bit) => !hasBit(rig.facts.features, bit),
      )!;
      link.refuses(R.SET_FEATURES, link.features | maskOf(missing), { because: `bit ${missing}` });
    },
  },
];
