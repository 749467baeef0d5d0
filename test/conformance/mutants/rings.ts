/** Bugs in the states of rings and in what tells them. */
import type { Mutant } from './mutant.ts';

const VRING = 'src/vhost/vring';
const VRINGS = 'src/vhost/backend-vrings';
const KICK = 'src/vhost/kick-watch';
const AREAS = 'src/vhost/vring-areas';
const NOTIFIER = 'src/vhost/notifier';
const STATE = 'src/vhost/backend-state';
const QUEUE = 'src/virtio/virtqueue';
const SCHEDULER = 'src/vhost/vring-scheduler';

export const RING_MUTANTS: readonly Mutant[] = [
  {
    id: 'kick-unseen',
    bug: 'kicks are not seen',
    file: KICK,
    search: `this.#onKick();
      }
      // Nobody`,
    replace: '} // Nobody',
    areas: ['ring.start', 'ring.enable'],
  },
  {
    id: 'lost-for-ever',
    bug: 'a ring that was lost stays lost when it is set up anew',
    file: VRING,
    search: "this.#state = 'broken'; this.#kick.pause();",
    replace: "this.#state = 'broken'; this.#kick.pause(); this.setKick = (fd) => fd?.close();",
    areas: ['ring.err', 'hostile.ring'],
  },
  {
    id: 'kick-does-not-start',
    bug: 'a kick does not start a ring',
    file: VRING,
    search: `if (this.#state === 'armed')
      this.#state = 'started';`,
    replace: 'void 0;',
    areas: ['ring.start'],
  },
  {
    id: 'started-without-kick',
    bug: 'a ring is processed as soon as it has a kick descriptor',
    file: VRING,
    search: "this.#state = this.#base === 0 ? 'armed' : 'started';",
    replace: "this.#state = 'started';",
    areas: ['ring.start'],
  },
  {
    id: 'early-kick-lost',
    bug: 'a kick that was there before SET_VRING_KICK is thrown away',
    file: KICK,
    search: 'this.close(); this.#fd = fd;',
    replace:
      'this.close(); drainEventfd(fd.fd); this.#loop.remove(fd.fd); this.#add(fd.fd, isRead); this.#fd = fd;',
    areas: ['ring.start', 'ring.kick'],
  },
  {
    id: 'started-without-set-kick',
    bug: 'a ring is processed without SET_VRING_KICK',
    file: VRING,
    search: "return this.#state === 'started' && this.#isMapped",
    replace: "return this.#state !== 'broken' && this.#isMapped",
    areas: ['ring.start', 'ring.stop'],
  },
  {
    id: 'disabled-served',
    bug: 'a disabled ring is processed',
    file: VRING,
    search: 'return this.#isRunning() && this.#isEnabled;',
    replace: 'return this.#isRunning();',
    areas: ['ring.disable'],
  },
  {
    id: 'kick-before-enable-lost',
    bug: 'what was kicked while the ring was disabled is forgotten',
    file: VRING,
    search: `this.#isEnabled = isEnabled;
      this.#around.schedule(this);`,
    replace: 'this.#isEnabled = isEnabled;',
    areas: ['ring.enable', 'ring.start'],
  },
  {
    id: 'stop-does-not-stop',
    bug: 'GET_VRING_BASE does not stop the ring',
    file: VRING,
    search: `this.#kick.close();
      this.#state = 'stopped';`,
    replace: 'void 0;',
    areas: ['ring.stop'],
  },
  {
    id: 'stop-disables',
    bug: 'GET_VRING_BASE disables the ring',
    file: VRING,
    search: `this.#state = 'stopped';
      this.#isPolled = false;`,
    replace: "this.#state = 'stopped'; this.#isPolled = false; this.#isEnabled = false;",
    areas: ['ring.stop'],
  },
  {
    id: 'base-off-by-one',
    bug: 'GET_VRING_BASE answers one too many',
    file: VRING,
    search: 'return this.#base;',
    replace: 'return (this.#base + 1) & 0xffff;',
    areas: ['ring.base'],
  },
  {
    id: 'base-wrapped-by-size',
    bug: 'GET_VRING_BASE answers the index modulo the size of the ring',
    file: VRING,
    search: 'return this.#base;',
    replace: 'return this.#base & (Math.max(1, this.#num) - 1);',
    areas: ['ring.base'],
  },
  {
    id: 'base-of-driver',
    bug: 'GET_VRING_BASE answers the index of the driver, not of the device',
    file: QUEUE,
    search: 'get nextAvail() { return this.#nextAvail; }',
    replace: 'get nextAvail() { return this.#avail[ring.RING_INDEX]; }',
    areas: ['ring.base'],
  },
  {
    id: 'base-ignored',
    bug: 'SET_VRING_BASE does nothing',
    file: VRING,
    search: 'this.#base = base; this.#setUpAnew();',
    replace: 'void base; this.#setUpAnew();',
    areas: ['ring.base'],
  },
  {
    id: 'used-index-from-base',
    bug: 'the used index is taken from SET_VRING_BASE, not from memory',
    file: QUEUE,
    search: 'this.#nextUsed = this.#used16[ring.RING_INDEX];',
    replace: 'this.#nextUsed = base & 0xffff;',
    areas: ['ring.base'],
  },
  {
    id: 'base-forgotten-when-set-up',
    bug: 'SET_VRING_ADDR of a running ring begins at index 0',
    file: VRING,
    search: `this.#addr = addr;
      this.#isMapped = true;
      this.#moveTo(areas);`,
    replace: 'this.#addr = addr; this.#isMapped = true; this.#closeQueue(); this.#base = 0;',
    areas: ['ring.addr'],
  },
  {
    id: 'num-any',
    bug: 'SET_VRING_NUM accepts what is no power of two',
    file: VRING,
    search: 'if (num === 0 || num > max || num > VRING_MAX_NUM || (num & (num - 1)) !== 0)',
    replace: 'if (num === 0 || num > max || num > VRING_MAX_NUM)',
    areas: ['ring.num'],
  },
  {
    id: 'num-zero',
    bug: 'SET_VRING_NUM accepts 0',
    file: VRING,
    search: 'if (num === 0 || num > max',
    replace: 'if (num > max',
    areas: ['ring.num'],
  },
  {
    id: 'num-unlimited',
    bug: 'SET_VRING_NUM accepts more than 32768',
    file: VRING,
    search: 'num > max || num > VRING_MAX_NUM ||',
    replace: '',
    areas: ['ring.num'],
  },
  {
    id: 'num-ignored',
    bug: 'SET_VRING_NUM of a ring that has a size does nothing',
    file: VRING,
    search: 'this.#num = num;',
    replace: 'this.#num ||= num;',
    areas: ['ring.again'],
  },
  {
    id: 'ring-index-unchecked',
    bug: 'messages about rings that do not exist concern another ring',
    file: STATE,
    search: 'const vring = this.vrings[index];',
    replace: 'const vring = this.vrings[index % this.vrings.length];',
    areas: ['ring.index'],
  },
  {
    id: 'ring-index-of-8-bits',
    bug: 'the upper bits of a ring index are cut off',
    file: STATE,
    search: 'const vring = this.vrings[index];',
    replace: 'const vring = this.vrings[index & 0xff];',
    areas: ['ring.index'],
  },
  {
    id: 'kick-not-replaced',
    bug: 'a second kick descriptor is not used',
    file: VRING,
    search: 'this.#kick.replace(fd);',
    replace: 'if (this.#kick.isSet && fd !== undefined) fd.close(); else this.#kick.replace(fd);',
    areas: ['ring.kick'],
  },
  {
    id: 'call-not-replaced',
    bug: 'a second call descriptor is not used',
    file: VRING,
    search: 'this.call.replace(fd);',
    replace: 'if (this.call.fd >= 0 && fd !== undefined) fd.close(); else this.call.replace(fd);',
    areas: ['ring.call'],
  },
  {
    id: 'call-not-given-up',
    bug: 'the invalid-fd flag of SET_VRING_CALL is ignored',
    file: VRING,
    search: 'this.call.replace(fd);',
    replace: 'if (fd !== undefined) this.call.replace(fd);',
    areas: ['ring.call'],
  },
  {
    id: 'never-polled',
    bug: 'a ring without a kick descriptor is not polled',
    file: VRING,
    search: 'this.#isPolled = fd === undefined;',
    replace: 'this.#isPolled = false;',
    areas: ['ring.kick'],
  },
  {
    id: 'err-not-signalled',
    bug: 'err is never signalled',
    file: VRING,
    search: 'this.err.signal();',
    replace: 'void 0;',
    areas: ['ring.err'],
  },
  {
    id: 'addresses-unaligned',
    bug: 'rings may be misaligned',
    file: AREAS,
    search: 'if (address % align !== 0)',
    replace: 'if (false)',
    areas: ['ring.addr'],
  },
  {
    id: 'addresses-unchecked',
    bug: 'SET_VRING_ADDR is not looked at before the ring is used',
    file: VRING,
    search:
      'const areas = this.#resolve(addr); this.#addr = addr; this.#isMapped = true; this.#moveTo(areas);',
    replace: 'this.#closeQueue(); this.#addr = addr; this.#isMapped = true;',
    areas: ['ring.addr'],
  },
  {
    id: 'stop-one-stop-all',
    bug: 'GET_VRING_BASE stops all rings',
    file: VRINGS,
    search: '({ index, num: state.vringAt(index).stop() })',
    replace:
      '({ index, num: (state.vrings.map((each) => each.index === index ? 0 : each.stop()), state.vringAt(index).stop()) })',
    areas: ['queues'],
  },
  {
    id: 'enable-one-enable-all',
    bug: 'SET_VRING_ENABLE concerns all rings',
    file: VRINGS,
    search: 'state.vringAt(index).setEnabled(num === 1);',
    replace: 'state.vringAt(index); for (const each of state.vrings) each.setEnabled(num === 1);',
    areas: ['queues', 'ring.disable'],
  },
  {
    id: 'calls-of-first-ring',
    bug: 'GET_VRING_BASE answers for ring 0',
    file: VRINGS,
    search: '({ index, num: state.vringAt(index).stop() })',
    replace: '({ index: 0, num: state.vringAt(index).stop() })',
    areas: ['ring.base', 'queues'],
  },
  {
    id: 'lost-ring-takes-others',
    bug: 'a ring that is lost takes the connection with it',
    file: SCHEDULER,
    search: 'vring.breakDown(error);',
    replace: "vring.breakDown(error); throw new TypeError('lost');",
    areas: ['hostile.ring', 'queues.lost-one'],
  },
  {
    id: 'never-called',
    bug: 'the driver is never called',
    file: NOTIFIER,
    search: 'signalEventfd(this.#fd.fd);',
    replace: 'void 0;',
    areas: ['queue.call'],
  },
];
