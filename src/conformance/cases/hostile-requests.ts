/** Requests in sound chains whose contents make no sense. */
import type { ConformanceCase } from '../case.ts';
import { nonsense } from '../device-requests.ts';
import { DEVICES } from '../device.ts';
import { Plane } from '../plane.ts';
import { capitalised } from '../titles.ts';

export const HOSTILE_REQUEST_CASES: readonly ConformanceCase[] = (['fs', 'blk'] as const).flatMap((name) =>
  nonsense(DEVICES[name]).map(({ id, name: title }, i): ConformanceCase => ({
    id: `hostile.${name}.${id}`,
    title: capitalised(title),
    level: 'robustness',
    spec: {
      section: name === 'fs' ? 'virtio 1.2 § 5.11.6' : 'virtio 1.2 § 5.2.6',
      says: 'a request has a header that says what it is, what belongs to it, and room for its answer',
    },
    expected: 'the chain is given back, and a good request behind it is answered',
    needs: { device: [name] },
    run: (rig) => {
      const ring = new Plane(rig).startRing();
      ring.request();
      ring.request({}, nonsense(rig.device)[i]);
      ring.request();
    },
  })),
);
