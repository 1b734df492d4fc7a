// limit: 120 s
/**
 * The same floods and leftovers with limits held by cgroups. Only root can prepare those, and only root can remove them
 * afterwards: the file runs itself again as the node would start, and sweeps when that has ended.
 */
import { spawn } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { dropPrivileges } from '../../../node/privileges.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import {
  type CgroupSlots,
  cgroupName,
  hierarchies,
  prepareCgroups,
  sweepCgroups,
} from '../../../node/sandbox/limits/cgroup.ts';
import { bindShare } from '../../../node/sandbox/limits/share.ts';
import { life } from './hostile-life.ts';
import { resources } from './hostile-resources.ts';
import { run, start, until } from './support.ts';

const AS_NODE = 'SF_TEST_AS_NODE';

if (process.getuid?.() !== 0) {
  console.log('skipped: only root can prepare cgroups for the node');
  test.skip('limits held by cgroups', () => {});
  test.run();
} else if (process.env[AS_NODE] === undefined) {
  const node = spawn(process.execPath, [import.meta.filename], {
    env: { ...process.env, [AS_NODE]: '1' },
    stdio: 'inherit',
  });
  process.exitCode = await new Promise<number>((resolve) => node.once('exit', (code) => resolve(code ?? 1)));
  sweepCgroups();
  test('a folder is swept though its pid is in use again, and one whose node lives is not', () => {
    const texts = ['mountinfo', 'cgroup'].map((name) => readFileSync(`/proc/self/${name}`, 'utf8'));
    const { own } = hierarchies(texts[0]!, texts[1]!).find(({ version, controllers }) =>
      version === 1 ? controllers.includes('memory') : existsSync('/sys/fs/cgroup/cgroup.controllers'),
    )!;
    const folders = [`superfleet-${process.pid}-1`, cgroupName(process.pid)].map((name) => join(own, name));
    for (const folder of folders) mkdirSync(folder);
    try {
      sweepCgroups();
      assert.equal(
        folders.map((folder) => existsSync(folder)),
        [false, true],
      );
    } finally {
      for (const folder of folders.filter((path) => existsSync(path))) rmdirSync(folder);
    }
  });
  if (process.exitCode === 0) test.run();
} else {
  delete process.env[AS_NODE];
  let slots: CgroupSlots = { memory: null, pids: null, unified: null };
  await dropPrivileges({
    prepare: ({ uid, gid }) => {
      slots = prepareCgroups(uid, gid, true);
    },
  });
  const sandbox = createSandbox({ cgroups: slots });
  const held = [slots.memory, slots.pids, slots.cpu ?? null, slots.unified].filter((slot) => slot !== null);
  if (slots.memory === null || slots.pids === null) {
    console.log('skipped: this machine lends no memory or pids controller');
    test.skip('limits held by cgroups', () => {});
  } else {
    resources(test, sandbox);
    life(test, sandbox);

    test('a task is in its cgroup from its first instruction, and sees no other', async () => {
      const told = await run(sandbox, ['cat', '/proc/self/cgroup']);
      assert.not.match(told.out, 'superfleet');
      assert.is(sandbox.limitKinds.memory, 'cgroup');
      assert.is(sandbox.limitKinds.processes, 'cgroup');
      const fork =
        'my $n = 0; while ($n < 50) { my $p = fork(); last unless defined $p; if (!$p) { sleep 3; exit } $n++ } print "$n\\n"; kill 9, -1';
      // The limit of processes is the cgroup's, which counts bwrap's monitor and the sandbox's init too.
      const forked = await run(sandbox, ['perl', '-e', fork], { limits: { processes: 10 } });
      assert.ok(Number(forked.out) <= 10, forked.out);
    });

    test('memory that no process maps counts, which only a cgroup sees', async () => {
      const number = process.arch === 'x64' ? 319 : 279;
      const hide = `my $n = 'x'; my $fd = syscall(${number}, $n, 0); open(my $f, '+<&=', $fd) or die; syswrite($f, 'x' x 1048576) for 1 .. 200; sleep 5; print "BAD\\n"`;
      const told = await run(sandbox, ['perl', '-e', hide], { limits: { memoryBytes: 100 * 1024 * 1024 } });
      assert.is(told.killedBy, 'memory', JSON.stringify(told));
    });

    test('what the owner gives all tasks together is kept on the cgroup that they share', async () => {
      const MiB = 1024 * 1024;
      const bytes = 300 * MiB;
      const { cgroups, settings } = bindShare(slots, { cpuWeight: 10, memory: { percent: 5, bytes } });
      const together = createSandbox({ cgroups, cpuWeight: 10, memoryBytesMax: bytes });
      const [cpu, memory] = settings;
      if (slots.cpu == null)
        assert.match(cpu!.says, /^10: niceness 10; this machine lends the node no cgroup/);
      else {
        const file = join(slots.cpu.folder, slots.cpu.version === 2 ? 'cpu.weight' : 'cpu.shares');
        assert.is(Number(readFileSync(file, 'utf8')), slots.cpu.version === 2 ? 10 : 102);
        assert.match(cpu!.says, /^10: cpu\.(weight|shares) of the cgroup of all tasks, and niceness 10$/);
      }
      assert.match(memory!.says, /^5% \(0\.3 GiB\): kept by the cgroup of all tasks$/);
      // Each within its own limit; both together are not within what they share.
      const fill = 'my $x = "x" x (shift() * 1048576); print "full\\n"; sleep shift';
      const argv = (mebibytes: number, seconds: number): string[] => [
        ...['perl', '-e', fill, String(mebibytes), String(seconds)],
      ];
      const limits = { memoryBytes: 250 * MiB };
      const both = [0, 1].map(() => start(together, argv(200, 600), { limits }));
      const first = await Promise.race(both.map(({ ended }, at) => ended.then((end) => ({ at, end }))));
      assert.is(first.end.killedBy, 'memory', JSON.stringify(first.end));
      const other = both[1 - first.at]!;
      other.kill();
      assert.is((await other.ended).killedBy, 'stopped', 'the other goes on');
      const wide = { limits: { memoryBytes: 900 * MiB } };
      assert.match((await run(together, argv(200, 0), wide)).out, 'full');
      assert.is((await run(together, argv(350, 0), wide)).killedBy, 'memory', 'no task gets more than all');
    });

    test('no cgroup of a run is left behind', async () => {
      await run(sandbox, ['true']);
      for (const { folder } of held) {
        await until(
          'no run’s folder',
          () => !readdirSync(folder).some((name) => name.startsWith(`run-${process.pid}-`)),
        );
      }
      const unified = slots.unified?.folder;
      if (unified !== undefined) {
        assert.match(readFileSync(join(unified, 'node', 'cgroup.procs'), 'utf8'), String(process.pid));
      }
    });
  }
  test.run();
}
