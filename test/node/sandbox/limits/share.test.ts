import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { CgroupSlots } from '../../../../node/sandbox/limits/cgroup.ts';
import { bindShare, type Share } from '../../../../node/sandbox/limits/share.ts';

const GiB = 1024 ** 3;
const HALF: Share['memory'] = { percent: 50, bytes: 4 * GiB };
const NONE: CgroupSlots = { memory: null, pids: null, unified: null };

/** A folder with these files, as a hierarchy would have them; `text` of one below it. */
function folderOf(files: string[], use: (folder: string, text: (name: string) => string) => void): void {
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-share-'));
  try {
    for (const name of files) {
      mkdirSync(join(folder, name, '..'), { recursive: true });
      writeFileSync(join(folder, name), '');
    }
    use(folder, (name) => readFileSync(join(folder, name), 'utf8'));
  } finally {
    rmSync(folder, { recursive: true });
  }
}

test('where nothing is set nothing is bound, and runs are made where they were', () => {
  const slots: CgroupSlots = { ...NONE, cpu: { version: 1, folder: '/nonexistent' } };
  const { cgroups, settings } = bindShare(slots, { cpuWeight: 100, memory: null });
  assert.equal(settings, []);
  assert.equal(cgroups, { ...NONE, cpu: null }, 'a weight that nobody asked for costs no folder a run');
});

test('version 2: the weight is the common folder’s, and the memory that of a folder of the runs, without the node', () => {
  const files = ['cpu.weight', 'node/cgroup.procs', 'work/cgroup.subtree_control', 'work/memory.max'];
  folderOf(files, (folder, text) => {
    const slot = { version: 2, folder } as const;
    const slots: CgroupSlots = { memory: slot, pids: slot, unified: slot, cpu: slot };
    const { cgroups, settings } = bindShare(slots, { cpuWeight: 10_000, memory: HALF });
    assert.is(text('cpu.weight'), '10000');
    assert.is(text('work/memory.max'), String(4 * GiB));
    assert.is(text('work/cgroup.subtree_control'), '+memory +pids');
    const runs = { version: 2, folder: join(folder, 'work') };
    assert.equal(cgroups, { memory: runs, pids: runs, unified: runs, cpu: slot });
    assert.equal(settings, [
      { name: 'cpu weight', says: '10000: cpu.weight of the cgroup of all tasks' },
      { name: 'memory share', says: '50% (4.0 GiB): kept by the cgroup of all tasks' },
    ]);
    assert.is(slots.memory, slot, 'what was given is left as it is');
  });
});

test('version 1: shares count from 1024, and the memory is the folder’s, which the node is not in', () => {
  folderOf(['cpu.shares', 'memory.limit_in_bytes'], (folder, text) => {
    const slot = { version: 1, folder } as const;
    for (const [weight, shares] of [
      [1, 10],
      [50, 512],
      [10_000, 102_400],
    ] as const) {
      const { cgroups } = bindShare(
        { ...NONE, memory: slot, cpu: slot },
        { cpuWeight: weight, memory: HALF },
      );
      assert.is(text('cpu.shares'), String(shares));
      assert.equal(cgroups, { ...NONE, memory: slot, cpu: slot });
    }
    assert.is(text('memory.limit_in_bytes'), String(4 * GiB));
  });
});

test('what cannot be bound is said with the reason, and what keeps it then', () => {
  const [light, share] = bindShare(NONE, { cpuWeight: 20, memory: HALF }).settings;
  assert.match(light!.says, /^20: niceness 7; this machine lends the node no cgroup/);
  assert.match(
    share!.says,
    /^50% \(4\.0 GiB\): the mesh is told so and each task .* nothing holds all together: this/,
  );
  const [heavy] = bindShare(NONE, { cpuWeight: 400, memory: null }).settings;
  assert.match(
    heavy!.says,
    /^400: kept by nothing; only a cgroup gives more than others have, and this machine/,
  );
  // A folder whose files are folders: they are there, and cannot be written.
  folderOf(['cpu.weight/x', 'work/cgroup.subtree_control/x'], (folder) => {
    const slot = { version: 2, folder } as const;
    const slots = { memory: slot, pids: null, unified: slot, cpu: slot };
    const { cgroups, settings } = bindShare(slots, { cpuWeight: 50, memory: HALF });
    assert.match(settings[0]!.says, /^50: niceness 3; its cgroup is not the node’s to set \(EISDIR\)$/);
    assert.match(settings[1]!.says, /its cgroup cannot be divided \(EISDIR\)$/);
    assert.equal(cgroups, { ...slots, cpu: null }, 'runs are made where they were');
  });
  assert.not.ok(existsSync('/nonexistent'));
});

test.run();
