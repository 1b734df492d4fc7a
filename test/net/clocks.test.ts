// limit: 150 s
// timed: leases of 3 s are held over tasks of 7
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { fakeTime, faketime } from './faketime.ts';
import { Fleet } from './fleet.ts';

/** Machines whose wall clock is two hours off, by libfaketime; monotonic clocks are the system's. */
const TWO_HOURS_MS = 2 * 3_600_000;
const NAMES = {
  ahead: 'a clock two hours off on the member: it joins, holds a lease, is verified; status names the clock',
  expired: 'a clock two hours off on the member: an invite expires by the founder’s clock alone',
  founder:
    'a clock two hours off on the founder: all the same, and its invites are good for as long as they say',
};

const clocks = async (fleet: Fleet): Promise<string[]> =>
  (await fleet.client.get<{ warnings: string[] }>('/v1/status')).warnings.filter((text) =>
    /the clock of/.test(text),
  );

/** Joins with this environment; its name is its own. */
async function joins(fleet: Fleet, name: string, env: NodeJS.ProcessEnv, token: string): Promise<void> {
  fleet.configure(name, { slots: 2 });
  const member = fleet.join(name, [token, '--name', name], { env });
  await member.event('ready');
  fleet.members.set(name, member);
}

if (faketime === undefined) {
  console.log('skipped: clocks.test.ts needs libfaketime (apt install libfaketime)');
  for (const name of Object.values(NAMES)) test.skip(name);
} else {
  const time = await fakeTime();
  const off = (hours: string): NodeJS.ProcessEnv => ({ ...time.env, FAKETIME: `${hours}h` });
  const fleet = await Fleet.start({ hub: { slots: 0, lease: '3s', heartbeat: '1s', grace: '1s' } });
  test.after(async () => {
    await fleet.close();
    await time.close();
  });

  test(NAMES.ahead, async () => {
    // By that member's clock it expired two hours ago less five minutes; by the founder's it is good.
    const { token } = await fleet.json<{ token: string }>(['invite', '--uses', '2', '--expires', '5m']);
    await Promise.all([joins(fleet, 'ahead', off('+2'), token), joins(fleet, 'right', {}, token)]);
    // Longer than two leases: it is renewed by the beats, whatever the wall clock says.
    const task = await fleet.submit(['sleep', '7'], { on: 'ahead' });
    const repository = await fleet.repository();
    const checked = await fleet.submit(['sed', '-i', 's/Helo/Hello/', 'greet.sh'], {
      repository,
      checks: ['sh test.sh'],
      on: 'ahead',
    });
    const verified = await fleet.ended(checked);
    assert.equal([verified.state, verified.verified], ['delivered', true]);
    const ended = await fleet.ended(task);
    assert.equal([ended.state, ended.attempts], ['delivered', 1], JSON.stringify(ended));
    const warned = await clocks(fleet);
    assert.is(warned.length, 1);
    assert.match(warned[0] ?? '', /the clock of ahead is 2 h ahead of the founder's/);
  });

  test(NAMES.expired, async () => {
    const short = await fleet.json<{ token: string; expiresAt: number }>(['invite', '--expires', '1s']);
    await new Promise((resolve) => setTimeout(resolve, Math.max(0, short.expiresAt - Date.now()) + 1));
    // By the member's clock it is good for two hours more; by the founder's it has expired.
    fleet.configure('behind', { slots: 0 });
    const refused = await fleet.node('behind', ['join', short.token, '--port', '0', '--json'], {
      env: off('-2'),
    });
    assert.is(refused.code, 4, refused.stderr);
    assert.match(refused.stderr, /"SF_INVITE".*expired/);
  });

  test(NAMES.founder, async () => {
    const fleet = new Fleet();
    try {
      const init = await fleet.hub(['init', '--name', 'hub', '--recovery-key', `${fleet.home}/r.key`]);
      assert.is(init.code, 0, init.stderr);
      fleet.configure('hub', { slots: 0, lease: '3s', heartbeat: '1s', grace: '1s' });
      fleet.hubDaemon = await fleet.startFounder(['--port', '0'], off('-2'));
      const made = await fleet.json<{ token: string; expiresAt: number }>(['invite', '--expires', '5m']);
      assert.ok(
        Math.abs(made.expiresAt - (Date.now() - TWO_HOURS_MS + 300_000)) < 30_000,
        'by its own clock',
      );
      await joins(fleet, 'right', {}, made.token);
      const task = await fleet.submit(['sleep', '7'], { on: 'right' });
      const short = await fleet.json<{ token: string }>(['invite', '--expires', '1s']);
      await fleet.untilAsked(
        async () => (await fleet.describe(task)).state === 'delivered',
        'a task of two leases is delivered',
      );
      assert.is((await fleet.describe(task)).attempts, 1);
      assert.match((await clocks(fleet)).join(), /the clock of right is 2 h ahead of the founder's/);
      // Made before the seconds of that task.
      fleet.configure('late', { slots: 0 });
      const refused = await fleet.node('late', ['join', short.token, '--port', '0', '--json']);
      assert.is(refused.code, 4, refused.stderr);
    } finally {
      await fleet.close();
    }
  });
}

test.run();
