import { existsSync, mkdtempSync, readFileSync, rmSync, statSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterEach, beforeEach, describe, expect, test } from 'vitest';
import { Listener } from '../../src/daemon/listener.ts';
import { createEventfd } from '../../src/host/eventfd.ts';
import { OwnedFd } from '../../src/host/owned-fd.ts';
import { connectUnix, listenUnix } from '../../src/host/unix-socket.ts';

let directory: string;
const socketPath = (): string => join(directory, 's');
const bind = (group?: string): Listener => Listener.open({ kind: 'path', path: socketPath(), group });

beforeEach(() => {
  directory = mkdtempSync(join(tmpdir(), 'listener-'));
});
afterEach(() => {
  rmSync(directory, { recursive: true });
});

describe('a socket path', () => {
  test('can be connected to, and is gone with its lock file after close', () => {
    const listener = bind();
    new OwnedFd(connectUnix(socketPath())).close();
    expect(readFileSync(`${socketPath()}.pid`, 'utf8')).toBe(`${process.pid}\n`);
    listener.close();
    listener.close();
    expect([existsSync(socketPath()), existsSync(`${socketPath()}.pid`)]).toEqual([false, false]);
  });

  test('left behind by a daemon that died is replaced', () => {
    new OwnedFd(listenUnix(socketPath(), { backlog: 1 })).close();
    expect(existsSync(socketPath())).toBe(true);
    using listener = bind();
    new OwnedFd(connectUnix(socketPath())).close();
    expect(listener.fd).toBeGreaterThan(0);
  });

  test('that another daemon serves is refused, and goes on being served', () => {
    using first = bind();
    expect(() => bind()).toThrow(
      expect.objectContaining({ code: 'BAD_OPTION', message: expect.stringContaining('another daemon') }),
    );
    new OwnedFd(connectUnix(socketPath())).close();
    expect(first.fd).toBeGreaterThan(0);
  });

  test('that is a file is refused, and the file stays; nothing else is left', () => {
    writeFileSync(socketPath(), 'precious');
    expect(() => bind()).toThrow(expect.objectContaining({ code: 'SYSTEM' }));
    expect(readFileSync(socketPath(), 'utf8')).toBe('precious');
    expect(existsSync(`${socketPath()}.pid`)).toBe(false);
  });

  test('whose lock file is a link is refused, and what it leads to stays', () => {
    const target = join(directory, 'target');
    writeFileSync(target, 'precious');
    symlinkSync(target, `${socketPath()}.pid`);
    expect(() => bind()).toThrow(expect.objectContaining({ code: 'SYSTEM' }));
    expect(readFileSync(target, 'utf8')).toBe('precious');
  });

  test('too long for a socket address is refused', () => {
    const path = join(directory, 'x'.repeat(120));
    expect(() => Listener.open({ kind: 'path', path, group: undefined })).toThrow(
      expect.objectContaining({ code: 'SYSTEM' }),
    );
  });

  test('may be connected to by its group', () => {
    using listener = bind('root');
    expect(listener.fd).toBeGreaterThan(0);
    const { mode, gid } = statSync(socketPath());
    expect([mode & 0o777, gid]).toEqual([0o660, 0]);
  });

  test('of a group that is not there is refused', () => {
    expect(() => bind('no-such-group')).toThrow(expect.objectContaining({ code: 'BAD_OPTION' }));
    expect(existsSync(`${socketPath()}.pid`)).toBe(false);
  });
});

describe('an inherited descriptor', () => {
  test('that is no socket is refused', () => {
    using other = new OwnedFd(createEventfd());
    expect(() => Listener.open({ kind: 'fd', fd: other.fd })).toThrow(
      expect.objectContaining({ code: 'BAD_OPTION' }),
    );
  });

  test('that is a socket but does not listen is refused', () => {
    using _listener = bind();
    using connected = new OwnedFd(connectUnix(socketPath()));
    expect(() => Listener.open({ kind: 'fd', fd: connected.fd })).toThrow(
      expect.objectContaining({ code: 'BAD_OPTION', message: expect.stringContaining('does not listen') }),
    );
  });

  test('is closed with the listener, and its path stays', () => {
    const fd = listenUnix(socketPath(), { backlog: 1 });
    Listener.open({ kind: 'fd', fd }).close();
    expect(connectUnix(socketPath())).toBe(-111);
    expect(existsSync(socketPath())).toBe(true);
  });
});
