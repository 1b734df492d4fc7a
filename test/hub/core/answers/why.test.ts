import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Wait } from '../../../../hub/core/answers/why-answer.ts';
import { CAPACITY, Fleet } from '../fleet.ts';

/** `task why`: each thing a task can wait for has its reason, its line for each member, and what would change it. */

interface Case {
  what: string;
  /** Brings it about; answers the task. */
  make(fleet: Fleet): string;
  wait: Wait | null;
  reasons: RegExp;
  /** Lines of members, by name. */
  members?: Record<string, RegExp>;
  remedies?: RegExp;
}

const RED = { outcome: 'failed', reason: 'check', fault: 'task', exitCode: 1, detail: 'red' } as const;

const cases: Case[] = [
  {
    what: 'a paused mesh',
    make(fleet) {
      fleet.join('ada');
      fleet.ask({ op: 'mesh.pause' });
      return fleet.submit();
    },
    wait: 'paused',
    reasons: /^the mesh is paused/,
    remedies: /^mesh-hub resume$/m,
  },
  {
    what: 'a secret that is not set',
    make(fleet) {
      fleet.join('ada');
      return fleet.submit({ secrets: ['TOKEN'] });
    },
    wait: 'secret',
    reasons: /the secret TOKEN is not set/,
    remedies: /^mesh-hub secret set TOKEN$/m,
  },
  {
    what: 'its back-off',
    make(fleet) {
      const ada = fleet.join('ada');
      const id = fleet.submit({ retries: 2 });
      fleet.finish(ada, fleet.running(ada), RED);
      return id;
    },
    wait: 'backOff',
    reasons: /tried again in 1 s, at \d\d:\d\d:\d\dZ[\s\S]*its last attempt ended: check, red/,
    members: { ada: /^failed it before; others are tried first$/ },
  },
  {
    what: 'no machine that fits',
    make(fleet) {
      fleet.join('ada');
      return fleet.submit({ labels: { gpu: 'a100' } });
    },
    wait: 'noFit',
    reasons: /none fits/,
    members: { ada: /^has no label gpu$/, founder: /^has no label gpu$/ },
    remedies: /^a machine that fits: label gpu=a100$/m,
  },
  {
    what: 'the one machine named, which is drained',
    make(fleet) {
      fleet.join('ada');
      fleet.join('bob');
      fleet.ask({ op: 'member.eligible', member: 'ada', eligible: false });
      return fleet.submit({ on: 'ada' });
    },
    wait: 'unavailable',
    reasons: /those that fit cannot be had/,
    members: { ada: /^is draining$/, bob: /^is not ada$/ },
    remedies: /^mesh-hub node eligible ada$/m,
  },
  {
    what: 'an owner who has paused the machine',
    make(fleet) {
      const ada = fleet.join('ada');
      fleet.member(ada, { type: 'owner', act: 'pause' });
      return fleet.submit();
    },
    wait: 'unavailable',
    reasons: /cannot be had/,
    members: { ada: /^is paused by its owner$/ },
    remedies: /on ada, mesh-node resume/,
  },
  {
    what: 'a machine without a sandbox, and one that is offline',
    make(fleet) {
      const ada = fleet.join('ada');
      fleet.disconnect(fleet.join('bob'));
      fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, sandbox: null } });
      return fleet.submit();
    },
    wait: 'unavailable',
    reasons: /cannot be had/,
    members: { ada: /^has no working sandbox$/, bob: /^is offline$/ },
    remedies: /mesh-node doctor[\s\S]*on bob, mesh-node start/,
  },
  {
    what: 'machines that are all busy',
    make(fleet) {
      fleet.join('ada');
      return ['', '', '', ''].map(() => fleet.submit()).at(-1)!;
    },
    wait: 'busy',
    reasons: /every machine that fits has its slots taken; 1 task is before it/,
    members: { ada: /^has no free slot$/, founder: /^is no worker$/ },
    remedies: /mesh-hub invite/,
  },
  {
    what: 'a task that was given out and has not begun',
    make(fleet) {
      fleet.join('ada');
      return fleet.submit();
    },
    wait: null,
    reasons: /^attempt 1 is with ada: given to it, not begun yet, for 0 s$/,
    remedies: /task logs -f/,
  },
  {
    what: 'a task that runs its checks',
    make(fleet) {
      const ada = fleet.join('ada');
      const id = fleet.submit();
      const { task, attempt, epoch } = fleet.running(ada);
      fleet.start(ada, fleet.running(ada));
      fleet.advance(3_000);
      fleet.member(ada, { type: 'progress', lease: { task, attempt, epoch }, phase: 'check', logBytes: 0 });
      return id;
    },
    wait: null,
    reasons: /^attempt 1 is with ada: running its checks, for 3 s$/,
  },
  {
    what: 'a task whose machine has gone a moment ago',
    make(fleet) {
      const ada = fleet.join('ada');
      const id = fleet.submit();
      fleet.start(ada, fleet.running(ada));
      fleet.disconnect(ada);
      return id;
    },
    wait: null,
    reasons: /its connection closed; it is waited for until \d\d:\d\d:\d\dZ, then the task goes elsewhere$/m,
  },
  {
    what: 'a result that another machine verifies',
    make(fleet) {
      const [ada] = [fleet.join('ada'), fleet.join('bob')];
      const id = fleet.submit({ on: 'ada' });
      fleet.finish(ada!, fleet.running(ada!));
      return id;
    },
    wait: null,
    reasons: /^done; it is being verified by bob: given to it, not begun yet/,
  },
  {
    what: 'a result that waits for another owner, who cannot be had',
    make(fleet) {
      const [ada, bob] = [fleet.join('ada', { owner: 'ann' }), fleet.join('bob', { owner: 'ben' })];
      fleet.join('amy', { owner: 'ann' });
      const id = fleet.submit({ on: 'ada' });
      fleet.member(bob!, { type: 'owner', act: 'pause' });
      fleet.finish(ada!, fleet.running(ada!));
      return id;
    },
    wait: null,
    reasons:
      /waits for a verifier of another owner than ann\nnone can be had; it goes out unverified in 60 s/,
    members: {
      ada: /^executed it$/,
      amy: /^belongs to ann, as the executor does$/,
      bob: /paused by its owner/,
    },
    remedies: /on bob, mesh-node resume/,
  },
  {
    what: 'a result that only another party could verify, and there is none',
    make(fleet) {
      const ada = fleet.join('ada');
      const id = fleet.submit({ requireVerified: true });
      fleet.finish(ada, fleet.running(ada));
      return id;
    },
    wait: null,
    reasons: /must be verified and cannot be: the mesh has no other party that may verify it/,
    members: { ada: /^executed it$/ },
    remedies: /a second machine that works: mesh-hub invite[\s\S]*task stop/,
  },
  {
    what: 'a verified result',
    make(fleet) {
      const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
      const id = fleet.submit({ on: 'ada' });
      fleet.finish(ada!, fleet.running(ada!));
      fleet.finish(bob!, fleet.running(bob!, 'verify'));
      return id;
    },
    wait: null,
    reasons: /^delivered, verified by bob$/,
    remedies: /mesh-hub task apply/,
  },
  {
    what: 'an unverified result',
    make(fleet) {
      const ada = fleet.join('ada');
      const id = fleet.submit({ checks: [] });
      fleet.finish(ada, fleet.running(ada));
      return id;
    },
    wait: null,
    reasons: /^delivered; unverified: the task has no checks$/,
  },
  {
    what: 'a failure',
    make(fleet) {
      const ada = fleet.join('ada');
      const id = fleet.submit();
      fleet.finish(ada, fleet.running(ada), RED);
      return id;
    },
    wait: null,
    reasons: /^failed on ada, after 1 attempt: check, red$/,
    remedies: /task rerun/,
  },
  {
    what: 'a goal that used up what it may take',
    make(fleet) {
      const ada = fleet.join('ada');
      const id = fleet.submit();
      const failed = {
        outcome: 'failed',
        reason: 'budget',
        fault: 'task',
        exitCode: null,
        detail: 'used up',
      } as const;
      fleet.finish(ada, fleet.running(ada), failed);
      return id;
    },
    wait: null,
    reasons: /budget, used up$/,
    remedies: /^mesh-hub task logs \S+\nsend it with more .*mesh-hub budget show$/,
  },
  {
    what: 'a task that was cancelled',
    make(fleet) {
      const id = fleet.submit();
      fleet.ask({ op: 'task.stop', task: id });
      return id;
    },
    wait: null,
    reasons: /^cancelled by a person$/,
  },
];

for (const { what, make, wait, reasons, members = {}, remedies } of cases) {
  test(`why: ${what}`, () => {
    const fleet = new Fleet();
    const id = make(fleet);
    const size = fleet.entries.length;
    const why = fleet.why(id);
    assert.is(fleet.entries.length, size, 'asking changes nothing');
    assert.is(why.wait, wait);
    assert.match(why.reasons.join('\n'), reasons);
    assert.is(why.position !== null, why.state === 'queued', 'a place is of queued tasks');
    for (const [name, line] of Object.entries(members)) {
      assert.match(why.members.find((member) => member.name === name)?.why ?? 'no line', line, name);
    }
    if (remedies !== undefined) assert.match(why.remedies.join('\n'), remedies);
  });
}

test('why: a task behind others says how many, and one that comes next says that', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const ids = Array.from({ length: 5 }, () => fleet.submit());
  assert.equal(
    ids.slice(2).map((id) => fleet.why(id).position),
    [0, 1, 2],
  );
});

test.run();
