import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hierarchies } from '../../../../node/sandbox/limits/cgroup.ts';

const unified =
  '29 23 0:26 / /sys/fs/cgroup rw,nosuid,nodev,noexec,relatime shared:4 - cgroup2 cgroup2 rw,nsdelegate';

test('one hierarchy of version 2, with the folder of this process', () => {
  const membership = '0::/system.slice/superfleet.service\n';
  assert.equal(hierarchies(unified, membership), [
    { version: 2, controllers: [], own: '/sys/fs/cgroup/system.slice/superfleet.service' },
  ]);
});

test('version 1 beside an empty version 2: each controller in its own hierarchy', () => {
  const mounts = [
    '31 30 0:27 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct',
    '32 30 0:28 / /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory',
    '33 30 0:29 / /sys/fs/cgroup/systemd rw - cgroup cgroup rw,name=systemd',
    '34 30 0:30 / /sys/fs/cgroup/unified rw - cgroup2 cgroup2 rw',
  ].join('\n');
  const membership = '4:memory:/a/b\n3:cpu,cpuacct:/\n1:name=systemd:/\n0::/x\n';
  assert.equal(hierarchies(mounts, membership), [
    { version: 1, controllers: ['cpu', 'cpuacct'], own: '/sys/fs/cgroup/cpu,cpuacct' },
    { version: 1, controllers: ['memory'], own: '/sys/fs/cgroup/memory/a/b' },
    { version: 1, controllers: ['name=systemd'], own: '/sys/fs/cgroup/systemd' },
    { version: 2, controllers: [], own: '/sys/fs/cgroup/unified/x' },
  ]);
});

test('in a container the mount shows a part of the hierarchy, and paths count from its root', () => {
  const mounts = '32 30 0:28 /docker/abc /sys/fs/cgroup/memory ro - cgroup cgroup rw,memory';
  assert.is(hierarchies(mounts, '4:memory:/docker/abc/x\n')[0]?.own, '/sys/fs/cgroup/memory/x');
  assert.is(hierarchies(mounts, '4:memory:/docker/abc\n')[0]?.own, '/sys/fs/cgroup/memory');
});

test('text of any other form gives no hierarchy', () => {
  for (const [mounts, membership] of [
    ['', ''],
    ['nonsense', 'nonsense'],
    [unified, ''],
    [unified, '4:memory:/\n'],
    ['36 35 8:1 / / rw - ext4 /dev/sda rw', '0::/\n'],
  ] as const) {
    assert.equal(hierarchies(mounts, membership), []);
  }
});

test.run();
