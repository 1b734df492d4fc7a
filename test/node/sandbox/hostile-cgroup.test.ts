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
import { life } from './hostile-life.ts';
import { resources } from './hostile-resources.ts';
import { run, until } from './support.ts';

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
      slots = prepareCgroups(uid, gid);
    },
  });
  const sandbox = createSandbox({ cgroups: slots });
  const held = [slots.memory, slots.pids, slots.unified].filter((slot) => slot !== null);
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
