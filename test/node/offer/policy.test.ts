import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { closesInMinutes, judge, judgeEach, type Moment, policyInForce } from '../../../node/offer/policy.ts';
import { noTasks, workOf } from '../../../node/offer/work.ts';
import { policyCharactersMax } from '../../../protocol/policy.ts';
import { policyText } from '../../../protocol/policy-schema.ts';
import { capacity } from '../../../protocol/session.ts';

const [SUN, MON, FRI, SAT] = [0, 1, 5, 6];
const MIN = 60_000;
const at = (day: number, time: string, more: Partial<Moment> = {}): Moment => {
  const [hours, minutes] = time.split(':').map(Number);
  return { day, minute: hours! * 60 + minutes!, idleMs: null, signal: null, seat: false, ...more };
};
const idle = (idleMs: number | null, seat = true): Partial<Moment> => ({ idleMs, seat, signal: 'terminals' });

for (const [policy, moment, holds, why] of [
  ['always', at(MON, '12:00', idle(0)), true, ''],
  // Hours, the day they begin on, both ends.
  ['hours=09:00-17:00', at(MON, '09:00'), true, 'mon 09:00 is within 09:00-17:00'],
  ['hours=09:00-17:00', at(MON, '16:59'), true, ''],
  ['hours=09:00-17:00', at(MON, '17:00'), false, 'mon 17:00 is outside 09:00-17:00'],
  ['hours=09:00-17:00', at(MON, '08:59'), false, ''],
  ['hours=18:00-08:00', at(MON, '18:00'), true, ''],
  ['hours=18:00-08:00', at(MON, '00:00'), true, ''],
  ['hours=18:00-08:00', at(MON, '07:59'), true, ''],
  ['hours=18:00-08:00', at(MON, '08:00'), false, ''],
  ['hours=18:00-08:00', at(MON, '12:00'), false, ''],
  ['hours=00:00-24:00', at(MON, '23:59'), true, ''],
  ['hours=18:00-08:00@mon-fri', at(MON, '07:00'), false, 'outside 18:00-08:00@mon+tue+wed+thu+fri'],
  ['hours=18:00-08:00@mon-fri', at(FRI, '18:30'), true, ''],
  ['hours=18:00-08:00@mon-fri', at(SAT, '07:59'), true, ''],
  ['hours=18:00-08:00@mon-fri', at(SAT, '18:30'), false, ''],
  ['hours=18:00-08:00@sat', at(SUN, '03:00'), true, ''],
  ['hours=00:00-24:00@sat+sun', at(SUN, '23:59'), true, ''],
  ['hours=00:00-24:00@sat+sun', at(MON, '00:00'), false, ''],
  // Nobody there.
  ['idle', at(MON, '12:00', idle(5 * MIN)), true, 'nobody was here for 5 min (terminals)'],
  [
    'idle',
    at(MON, '12:00', idle(5 * MIN - 1)),
    false,
    'somebody was here 4 min ago (terminals); it waits for 5m',
  ],
  ['idle', at(MON, '12:00', idle(0)), false, 'somebody was here now'],
  ['idle=10s', at(MON, '12:00', idle(9_999)), false, 'somebody was here 9 s ago'],
  ['idle=10s', at(MON, '12:00', idle(10_000)), true, ''],
  ['idle=24h', at(MON, '12:00', idle(3 * 86_400_000)), true, 'for 3 d'],
  // Unknown is busy where somebody may sit, and nobody where nobody can.
  ['idle', at(MON, '12:00', idle(null, true)), false, 'nothing tells whether they do'],
  ['idle', at(MON, '12:00', idle(null, false)), true, 'nobody can sit here'],
  ['idle', at(MON, '12:00', idle(0, false)), false, 'somebody was here now'],
  // All must hold; the first that does not is named.
  [
    'idle,hours=18:00-08:00',
    at(MON, '20:00', idle(6 * MIN)),
    true,
    'nobody was here for 6 min (terminals); mon 20:00',
  ],
  ['idle,hours=18:00-08:00', at(MON, '20:00', idle(0)), false, 'somebody was here'],
  ['idle,hours=18:00-08:00', at(MON, '12:00', idle(6 * MIN)), false, 'outside 18:00-08:00'],
  ['always,hours=18:00-08:00', at(MON, '12:00'), false, 'outside'],
  ['hours=08:00-12:00,hours=11:00-20:00', at(MON, '11:30'), true, ''],
  ['hours=08:00-12:00,hours=11:00-20:00', at(MON, '12:30'), false, ''],
  // What feeds it, what others do there, and words that are not about when.
  ['on-mains', at(MON, '12:00', { battery: true }), false, 'it runs on its battery'],
  ['on-mains', at(MON, '12:00', { battery: false }), true, 'fed by the mains'],
  ['load=50%', at(MON, '12:00', { load: 49.9 }), true, 'others take 50% of the processors'],
  ['load=50%', at(MON, '12:00', { load: 50 }), false, 'it waits for less than 50%'],
  ['load=50%', at(MON, '12:00', { load: null }), false, 'not known yet'],
  ['kinds=code,submitters=ada', at(MON, '12:00', idle(0)), true, ''],
  // A newer release's word.
  ['mains', at(MON, '12:00'), false, 'does not know mains'],
  ['always,mains', at(MON, '12:00'), false, 'does not know mains'],
] as [string, Moment, boolean, string][]) {
  test(`${policy} at day ${moment.day}, minute ${moment.minute}, idle ${moment.idleMs}, seat ${moment.seat}: ${holds}`, () => {
    const verdict = judge(policy, moment);
    assert.is(verdict.holds, holds, verdict.why);
    assert.ok(verdict.why.includes(why), verdict.why);
    assert.is(verdict.told === null, holds);
  });
}

for (const [policy, day, time, minutes] of [
  ['idle', MON, '12:00', null],
  ['hours=09:00-17:00', MON, '12:00', 300],
  ['hours=09:00-17:00', MON, '18:00', null],
  ['hours=18:00-08:00', MON, '23:00', 540],
  ['hours=18:00-08:00', MON, '07:59', 1],
  ['hours=00:00-24:00', MON, '12:00', null],
  ['hours=00:00-24:00@sat+sun', SAT, '12:00', 2160],
  ['hours=18:00-08:00@fri', SAT, '07:00', 60],
  ['hours=09:00-17:00,hours=12:00-13:00,idle', MON, '12:15', 45],
] as [string, number, string, number | null][]) {
  test(`${policy} on day ${day} at ${time} ends in ${minutes} min`, () => {
    assert.is(closesInMinutes(policy, at(day, time)), minutes);
  });
}

test('the founder hears what is in force, and nothing of what the owner does', () => {
  const { told } = judge('idle', at(MON, '12:00', idle(1_000)));
  assert.is(told, 'is in use by its owner (policy idle)');
  assert.match(judge('hours=18:00-08:00', at(MON, '12:00')).told!, /owner’s hours \(18:00-08:00/);
});

for (const [owner, invite, seat, policy] of [
  [null, null, false, 'always'],
  [null, null, true, 'idle'],
  ['always', null, true, 'always'],
  [null, 'hours=18:00-08:00', true, 'hours=18:00-08:00'],
  ['idle', 'hours=18:00-08:00', false, 'hours=18:00-08:00,idle'],
  ['always', 'idle', false, 'idle'],
  ['idle', 'always', false, 'idle'],
  ['idle', 'idle', true, 'idle'],
  ['always', 'always', true, 'always'],
] as const) {
  test(`owner ${owner} and invite ${invite}${seat ? ' at a screen' : ''}: ${policy} is in force`, () => {
    assert.is(policyInForce({ owner, invite, mesh: null }, seat).policy, policy);
  });
}

for (const [owner, invite, mesh, seat, policy, from] of [
  ['always', null, 'idle', false, 'idle', 'the mesh'],
  [null, null, 'hours=18:00-08:00', false, 'hours=18:00-08:00', 'the mesh'],
  [
    null,
    null,
    'hours=18:00-08:00',
    true,
    'hours=18:00-08:00,idle',
    'default where somebody may sit at a screen, and the mesh',
  ],
  ['idle=10m', null, 'idle=10m', false, 'idle=10m', 'its owner, and the mesh'],
  ['load=50%', 'idle', 'load=20%', true, 'load=20%,idle,load=50%', 'its owner and the invite, and the mesh'],
  ['idle', null, 'always', false, 'idle', 'its owner'],
  [null, null, 'always', true, 'idle', 'default where somebody may sit at a screen'],
] as const) {
  test(`owner ${owner}, invite ${invite}, the mesh ${mesh}${seat ? ' at a screen' : ''}: ${policy} is in force`, () => {
    assert.equal(policyInForce({ owner, invite, mesh }, seat), { policy, from });
  });
}

test('the mesh’s default takes away and never gives: what held with it held without it, at every moment', () => {
  const words = [
    'always',
    'idle',
    'hours=09:00-17:00',
    'hours=18:00-08:00@mon-fri',
    'on-mains',
    'load=30%',
    null,
  ];
  for (const owner of words) {
    for (const mesh of words) {
      for (const seat of [true, false]) {
        const alone = policyInForce({ owner, invite: null, mesh: null }, seat).policy;
        const both = policyInForce({ owner, invite: null, mesh }, seat).policy;
        for (const idleMs of [0, 6 * MIN, null]) {
          for (const time of ['03:00', '12:00', '20:00']) {
            for (const load of [10, 40]) {
              const moment = at(SAT, time, { ...idle(idleMs, seat), battery: load === 40, load });
              const holds = judge(alone, moment).holds && judge(mesh ?? 'always', moment).holds;
              assert.is(judge(both, moment).holds, holds, `${owner} with ${mesh}`);
            }
          }
        }
      }
    }
  }
});

test('hours of the mesh are told as the mesh’s', () => {
  const [judged] = judgeEach('hours=18:00-08:00', at(MON, '12:00'), 'hours=18:00-08:00');
  assert.is(judged?.mesh, true);
  assert.match(judged!.verdict.told!, /^works only at the mesh’s hours \(18:00-08:00/);
});

test('one sentence says whether it works, by which policy and which sign', () => {
  const facts = {
    roles: ['worker'],
    lack: null,
    pause: null,
    slots: 1,
    policy: { policy: 'idle', from: 'its owner' },
    verdict: judge('idle', at(MON, '12:00', idle(6 * MIN))),
  };
  assert.is(workOf(facts), 'takes tasks, policy idle (its owner): nobody was here for 6 min (terminals)');
  const verdict = judge('idle', at(MON, '12:00', idle(0)));
  assert.match(
    workOf({ ...facts, verdict }),
    /^takes no tasks now, policy idle \(its owner\): somebody was here now/,
  );
  assert.match(
    workOf({ ...facts, pause: { endsInMs: null } }),
    /paused by its owner, until "mesh-node resume"/,
  );
  assert.match(workOf({ ...facts, pause: { endsInMs: 61_000 } }), /for 2 min more/);
  assert.match(workOf({ ...facts, slots: 0 }), /offers no slots/);
  assert.match(
    workOf({ ...facts, roles: ['submitter'] }),
    /^takes no tasks: its membership says submitter, not worker/,
  );
  const lacking = workOf({ ...facts, lack: 'bubblewrap is not installed' });
  assert.is(lacking, noTasks('bubblewrap is not installed'));
  assert.match(lacking, /^takes no tasks \(bubblewrap is not installed\): it serves models/);
});

test('what the founder is told of a policy always fits its message, whatever word a newer release put there', () => {
  const word = `x${'a'.repeat(policyCharactersMax - 1)}`;
  const { holds, told } = judge(policyText.parse(word), at(MON, '12:00'));
  assert.is(holds, false);
  assert.ok(capacity.shape.bar.safeParse(told).success, told ?? '');
});

test.run();
