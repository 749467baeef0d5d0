import { expect, test } from 'vitest';
import { Client } from './client.ts';

test('locks go to the host unless they are to be the guest’s own', () => {
  using host = new Client();
  using guest = new Client({ locks: 'guest' });
  expect(host.fs.capabilities).toMatchObject({ posixLocks: true, flockLocks: true });
  expect(guest.fs.capabilities).toMatchObject({ posixLocks: false, flockLocks: false });
});
