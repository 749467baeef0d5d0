/** A thread that reads, inside the gate, what the page index in word 0 of `shared` names; and has the gate for itself now and then. */
import { workerData } from 'node:worker_threads';
import { NativeMemory } from '../../src/host/native-memory.ts';
import { TurnGate } from '../../src/host/turn-gate.ts';
import { GateWord, type GateTest } from './gate-words.ts';

const { data } = workerData as { readonly data: GateTest };
const gate = new TurnGate(
  NativeMemory.at(data.gateAddress, TurnGate.bytesFor(data.threads)),
  data.threads,
  data.thread,
);
const words = NativeMemory.at(data.sharedAddress, 4096).i32;
const count = (word: number): void => void Atomics.add(words, word, 1);

count(GateWord.RUNNING);
for (let turn = 0; Atomics.load(words, GateWord.STOP) === 0; turn += 1) {
  gate.enter();
  const page = Atomics.load(words, GateWord.CURRENT);
  for (let look = 0; look < 20 && !gate.isWanted; look += 1) {
    if (Atomics.load(words, GateWord.PAGES + page) === 0) count(GateWord.STALE);
    if (words[GateWord.CHANGING] !== 0) count(GateWord.INTRUDED);
  }
  const hadItAlone =
    turn % 16 === 0 &&
    gate.exclusively(() => {
      words[GateWord.CHANGING] = 1;
      for (let spin = 0; spin < 50; spin += 1);
      words[GateWord.CHANGING] = 0;
    });
  if (hadItAlone) count(GateWord.ALONE);
  gate.leave();
}
