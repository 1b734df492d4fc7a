import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { LoadSensor } from '../../../node/offer/load.ts';
import type { Verdict } from '../../../node/offer/policy.ts';
import { PresenceSensor } from '../../../node/offer/presence.ts';
import { PolicyWatch } from '../../../node/offer/watch.ts';

/** A machine with a screen on which nothing can be seen. */
function watched(owner: string | null, invite: string | null): PolicyWatch {
  const nothing = '/nonexistent/superfleet';
  const sensor = new PresenceSensor({
    dev: nothing,
    interrupts: nothing,
    inputDevices: nothing,
    seat: () => true,
    logind: { look: () => null, close: () => {} },
    display: { look: () => null, refusal: null, close: () => {} },
  });
  const load = new LoadSensor(() => null);
  return new PolicyWatch({ owner, invite, sensor, load, seat: () => true, battery: () => true });
}

test('what an owner sets holds at once and with the invite’s; what holds no more is told', () => {
  const watch = watched('always', 'on-mains');
  const heard: Verdict[] = [];
  watch.begin((verdict) => heard.push(verdict));
  assert.is(watch.verdict.holds, false);
  watch.setOwner('kinds=code');
  assert.is(watch.inForce.policy, 'on-mains,kinds=code');
  assert.equal(heard, [], 'it was barred before by the same');
  watch.setOwner('hours=00:00-24:00,idle');
  assert.equal(watch.said, { owner: 'hours=00:00-24:00,idle', invite: 'on-mains', mesh: null });
  watch.close();
  const free = watched('always', null);
  free.begin((verdict) => heard.push(verdict));
  free.setOwner('idle');
  assert.equal(
    heard.map(({ holds, brief }) => [holds, brief]),
    [[false, true]],
  );
  free.setOwner('always');
  assert.is(heard.at(-1)?.holds, true);
  free.setOwner(null);
  assert.is(free.inForce.policy, 'idle', 'the default at a screen');
  free.close();
});

test('the mesh’s default holds at once besides the owner’s word, which cannot take it away', () => {
  const watch = watched('always', null);
  const heard: Verdict[] = [];
  watch.begin((verdict) => heard.push(verdict));
  watch.setMesh('on-mains');
  assert.equal(
    heard.map(({ holds, brief }) => [holds, brief]),
    [[false, true]],
  );
  watch.setOwner('always');
  assert.equal(watch.inForce, { policy: 'on-mains', from: 'the mesh' });
  const { conditions } = watch.examine('hours=00:00-24:00');
  assert.equal(
    conditions.map(({ condition, mesh }) => [condition, mesh]),
    [
      ['on-mains', true],
      ['hours=00:00-24:00', false],
    ],
  );
  watch.setMesh(null);
  assert.is(heard.at(-1)?.holds, true);
  watch.close();
});

test('a policy is tested condition by condition, with every sign, and changes nothing', () => {
  const watch = watched('always', null);
  const { policy, verdict, conditions, signals } = watch.examine('on-mains,load=50%,idle,hours=00:00-24:00');
  assert.is(policy, 'on-mains,load=50%,idle,hours=00:00-24:00');
  assert.is(verdict.holds, false);
  assert.equal(
    conditions.map(({ condition, verdict: { holds } }) => [condition, holds]),
    [
      ['on-mains', false],
      ['load=50%', false],
      ['idle', false],
      ['hours=00:00-24:00', true],
    ],
  );
  assert.equal(signals, [
    { name: 'seat', says: 'somebody may sit at a screen here' },
    { name: 'not seen', says: 'which keyboards and mice there are' },
    { name: 'power', says: 'its battery' },
    { name: 'load', says: 'what others take is not known yet' },
  ]);
  assert.is(watch.inForce.policy, 'always');
  assert.is(watch.verdict.holds, true);
  watch.close();
});

test.run();
