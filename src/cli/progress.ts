/** Progress of a command for people: a bar that moves on a terminal, a line per phase elsewhere. */
import type { WriteStream } from 'node:tty';

const BAR = 24;
const REDRAW_MS = 50;

export class Progress {
  readonly #out: Pick<WriteStream, 'write' | 'isTTY'>;
  #phase = '';
  #drawnAt = 0;

  constructor(out: Pick<WriteStream, 'write' | 'isTTY'>) {
    this.#out = out;
  }

  /** Step `done` of `total` of a phase. */
  step(phase: string, done: number, total: number): void {
    const isLast = done === total;
    if (this.#out.isTTY) {
      const now = performance.now();
      if (!isLast && now - this.#drawnAt < REDRAW_MS) return;
      this.#drawnAt = now;
      const filled = Math.round((BAR * done) / total);
      const bar = '█'.repeat(filled) + '░'.repeat(BAR - filled);
      this.#out.write(`\r\u001B[K${bar} ${done}/${total} ${phase}${isLast ? '\n' : ''}`);
    } else if (phase !== this.#phase) {
      this.#out.write(`${phase}\n`);
    }
    this.#phase = phase;
  }

  line(text: string): void {
    this.#out.write(this.#out.isTTY ? `\r\u001B[K${text}\n` : `${text}\n`);
  }
}
