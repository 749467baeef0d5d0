/**
 * Some lines of a terminal that are drawn again and again in one place. Lines are cut to the width, colours are left out if NO_COLOR is set;
 * the cursor is hidden meanwhile.
 */
export type Colour = 'green' | 'yellow' | 'red' | 'dim' | 'bold';

const CODES: { readonly [colour in Colour]: number } = { green: 32, yellow: 33, red: 31, dim: 2, bold: 1 };
const ESC = '\u001B[';

/** A piece of a line. */
export interface Span {
  readonly text: string;
  readonly colour?: Colour | undefined;
}

export type Line = readonly (Span | string)[];

/** What is needed of standard output. */
export interface Terminal {
  write(text: string): unknown;
  readonly isTTY?: boolean;
  readonly columns?: number;
  readonly rows?: number;
  on?(event: 'resize', listener: () => void): unknown;
  off?(event: 'resize', listener: () => void): unknown;
}

export class LiveArea implements Disposable {
  readonly #out: Terminal;
  readonly #hasColours: boolean;
  #drawn = 0;
  #mustClear = false;
  readonly #resized = (): void => {
    this.#mustClear = true;
  };

  constructor(out: Terminal, environment: NodeJS.ProcessEnv = process.env) {
    this.#out = out;
    this.#hasColours = (environment['NO_COLOR'] ?? '') === '';
    out.on?.('resize', this.#resized);
  }

  /** Columns and rows there are for the lines. */
  get columns(): number {
    return Math.max(20, known(this.#out.columns, 80));
  }
  get rows(): number {
    return Math.max(1, known(this.#out.rows, 24) - 1);
  }

  /** Puts these lines in the place of those drawn last. What does not fit, at the end, is left out. */
  draw(lines: readonly Line[]): void {
    const shown = lines.slice(0, this.rows);
    // Lines drawn before a change of width may have been broken by the terminal: nobody knows where they are.
    const home = this.#mustClear
      ? `${ESC}H${ESC}2J`
      : this.#drawn > 0
        ? `${ESC}${this.#drawn}A`
        : `${ESC}?25l`;
    this.#mustClear = false;
    this.#drawn = shown.length;
    this.#out.write(`${home}\r${shown.map((line) => `${this.#render(line)}${ESC}K\n`).join('')}${ESC}J`);
  }

  /** Leaves the lines as they are, and gives the cursor back. Idempotent. */
  [Symbol.dispose](): void {
    this.#out.off?.('resize', this.#resized);
    if (this.#drawn > 0) this.#out.write(`${ESC}?25h`);
    this.#drawn = 0;
  }

  #render(line: Line): string {
    let left = this.columns;
    let rendered = '';
    for (const span of line) {
      const { text, colour } = typeof span === 'string' ? { text: span, colour: undefined } : span;
      const cut = text.length > left ? `${text.slice(0, Math.max(0, left - 1))}…` : text;
      if (left === 0) break;
      left -= cut.length;
      rendered += colour === undefined || !this.#hasColours ? cut : `${ESC}${CODES[colour]}m${cut}${ESC}0m`;
    }
    return rendered;
  }
}

/** A terminal that does not know its size says 0. */
const known = (size: number | undefined, otherwise: number): number =>
  size === undefined || size === 0 ? otherwise : size;
