/** Standard output of a command that writes much: a reader that has seen enough, such as `head`, is no failure. */

export interface TextOutput {
  readonly write: (text: string) => void;
}

export function standardOutput(): TextOutput {
  let isClosed = false;
  process.stdout.on('error', (error: NodeJS.ErrnoException) => {
    if (error.code !== 'EPIPE') throw error;
    isClosed = true;
  });
  return {
    write: (text) => {
      if (!isClosed) process.stdout.write(text);
    },
  };
}
