import { describe, expect, test } from 'vitest';
import {
  vringAvailEventOffset,
  vringAvailSize,
  VringDesc,
  vringDescSize,
  vringNeedEvent,
  vringUsedEventOffset,
  vringUsedSize,
} from '../../protocol/virtio-ring.ts';
import { VirtioBlkConfig, VirtioBlkHeader, VirtioBlkRequestType } from '../../protocol/virtio-blk.ts';
import { VirtioFsConfig, VirtioFsNotifyConfig } from '../../protocol/virtio-fs.ts';
import {
  VirtioMemConfig,
  VirtioMemReq,
  VirtioMemRequestType,
  VirtioMemResp,
} from '../../protocol/virtio-mem.ts';

describe('split ring', () => {
  test('areas of a ring of 1024 entries have the sizes QEMU places them by', () => {
    // fixtures/vhost-user: avail at desc + 0x4000, used at avail + 0x840 (its size 0x806 rounded up to 64).
    expect(vringDescSize(1024)).toBe(0x4000);
    expect(vringAvailSize(1024)).toBe(0x806);
    expect(vringUsedSize(1024)).toBe(0x2006);
    expect(vringUsedEventOffset(1024)).toBe(0x804);
    expect(vringAvailEventOffset(1024)).toBe(0x2004);
  });

  test('a descriptor is 16 bytes, its flags at 12', () => {
    expect(VringDesc.decode(Buffer.from('00100000010000000002000003000700', 'hex'))).toEqual({
      addr: 0x1_0000_1000n,
      len: 0x200,
      flags: 3,
      next: 7,
    });
  });

  test('an event is needed exactly if the index passed it, also across 2^16', () => {
    expect(vringNeedEvent(5, 6, 5)).toBe(true);
    expect(vringNeedEvent(5, 5, 4)).toBe(false);
    expect(vringNeedEvent(5, 9, 6)).toBe(false);
    expect(vringNeedEvent(0xffff, 1, 0xfffe)).toBe(true);
    expect(vringNeedEvent(3, 3, 3)).toBe(false);
  });
});

describe('device configuration', () => {
  test('virtio-fs: a tag of 36 bytes, then the number of request queues', () => {
    const tag = Buffer.alloc(36);
    tag.write('myfs');
    const encoded = VirtioFsConfig.encode({ tag, numRequestQueues: 2 });
    expect(encoded.toString('hex')).toBe(`6d796673${'00'.repeat(32)}02000000`);
    expect(VirtioFsNotifyConfig.offset.notifyBufSize).toBe(40);
  });

  test('virtio-blk: a header of 16 bytes, a packed configuration of 60', () => {
    const read = VirtioBlkHeader.encode({ type: VirtioBlkRequestType.GET_ID, ioprio: 0, sector: 3n });
    expect(read.toString('hex')).toBe('08000000000000000300000000000000');
    expect([VirtioBlkConfig.offset.blkSize, VirtioBlkConfig.offset.numQueues]).toEqual([20, 34]);
    expect(VirtioBlkConfig.offset.writeZeroesMayUnmap).toBe(56);
  });

  test('virtio-mem: requests are 24 bytes, responses 10, configuration 56', () => {
    const plug = VirtioMemReq.encode({ type: VirtioMemRequestType.PLUG, addr: 0x1_4000_0000n, nbBlocks: 4 });
    expect(plug.toString('hex')).toBe('000000000000000000000040010000000400000000000000');
    expect(VirtioMemResp.decode(Buffer.from('00000000000000000200', 'hex'))).toEqual({ type: 0, state: 2 });
    expect(VirtioMemConfig.offset.requestedSize).toBe(48);
  });
});
