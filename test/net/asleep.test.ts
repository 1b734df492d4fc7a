// limit: 120 s
// timed: its leases are short
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { childless, descendants, Fleet, runs, wake } from './fleet.ts';
import { isRoot } from './mesh.ts';

/**
 * A laptop whose lid is closed: node and sandbox stand still together, longer than the lease. Real suspension, in which
 * Linux' monotonic clock stands still too, is what `WakefulClock` is for (test/node/daemon/clock.test.ts).
 */
const NAME =
  'a machine that sleeps in mid-task: its work goes on elsewhere, and it stops its own attempt when it wakes';

if (!isRoot) {
  console.log('skipped: asleep.test.ts stops processes of other users and needs root');
  test.skip(NAME);
} else {
  test(NAME, async () => {
    const fleet = await Fleet.start({
      hub: { slots: 0, lease: '2s', heartbeat: '500ms', grace: '1s' },
      members: { m1: { slots: 1 }, m2: { slots: 1 } },
    });
    try {
      const task = await fleet.submit(['sh', '-c', 'sleep 600; : lid-closed']);
      const started = await fleet.about(task, 'attempt.started');
      await runs('lid-closed');
      const name = (await fleet.describe(task)).executor!.name!;
      const { pid } = fleet.daemon(name);
      const all = [pid, ...descendants(pid)];
      assert.ok(all.length > 2, 'node, bubblewrap and the task');
      for (const one of all) process.kill(one, 'SIGSTOP');
      const again = await fleet.about(task, 'attempt.started', started.index + 1);
      const { items } = await fleet.json<{ items: { type: string; body: { detail?: string } }[] }>([
        'task',
        'history',
        task,
      ]);
      const lost = items.find(({ type }) => type === 'attempt.ended');
      assert.match(lost?.body.detail ?? '', /nothing was heard from this member for 2 s/);
      for (const one of all.reverse()) process.kill(one, 'SIGCONT');
      await childless(pid, 3_000);
      const said = new RegExp(`task ${task} is stopped here: this machine slept`);
      await fleet.daemon(name).until(() => said.test(fleet.daemon(name).log) || undefined, String(said));
      const other = (await fleet.describe(task)).executor!.name!;
      assert.is.not(other, name);
      assert.ok(again.index > started.index);
      await fleet.untilAsked(
        async () => (await fleet.client.get<{ state: string }>(`/v1/nodes/${name}`)).state === 'online',
        'it is back',
      );
      const next = await fleet.submit(['true'], { on: name });
      assert.is((await fleet.ended(next)).state, 'delivered', 'and is given work again');
      await wake('lid-closed');
      const ended = await fleet.ended(task);
      assert.equal([ended.state, ended.executor?.name], ['delivered', other]);
      const accepted = fleet.entries.filter((e) => e.type === 'task.executed' && e.body.task === task);
      assert.is(accepted.length, 1);
    } finally {
      await fleet.close();
    }
  });
}

test.run();
