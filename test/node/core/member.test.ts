import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkpointSize } from '../../../node/core/checkpoint.ts';
import { MemberCore } from '../../../node/core/member.ts';
import type { MemberEffect, MemberInput, MemberRestored } from '../../../node/core/types.ts';
import type { Assignment, FounderMessage, MemberMessage, Welcome } from '../../../protocol/session.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { CAPACITY, MESH, REPOSITORY, resultOf } from '../../hub/core/fleet.ts';

const PEER = 'member';

/** A member core and what it did last. */
class Member {
  now = 1_000;
  core: MemberCore;
  last: MemberEffect[] = [];
  session = 0;

  constructor(restored: Partial<MemberRestored> = {}) {
    const empty = { ready: [], ownerPaused: false, checkpoint: null, rosterVersion: 0 };
    this.core = new MemberCore({ mesh: MESH, capacity: CAPACITY, ...empty, ...restored }, this.clock());
  }

  clock = () => ({ now: this.now, time: 0, random: () => new Uint8Array(16) });

  step(input: MemberInput): MemberEffect[] {
    this.last = this.core.step(input, this.clock());
    return this.last;
  }

  hear(message: FounderMessage): MemberEffect[] {
    return this.step({ type: 'received', session: this.session, message });
  }

  connect(resume: { task: string; attempt: number; epoch: number }[] = [], paused = false): MemberEffect[] {
    this.session += 1;
    const hello = this.step({ type: 'connected', session: this.session });
    return [...hello, ...this.hear({ ...welcome(), resume, paused })];
  }

  assign(attempt = 1): Assignment {
    const assignment = assignmentOf(attempt);
    this.hear({ type: 'assign', assignment });
    return assignment;
  }

  tick(ms: number): MemberEffect[] {
    const effects: MemberEffect[] = [];
    for (let passed = 0; passed < ms; passed += 250) {
      this.now += 250;
      effects.push(...this.step({ type: 'tick' }));
    }
    this.last = effects;
    return effects;
  }

  sent<T extends MemberMessage['type']>(type: T): Extract<MemberMessage, { type: T }>[] {
    return this.last.flatMap((effect) =>
      effect.type === 'send' && effect.message.type === type
        ? [effect.message as Extract<MemberMessage, { type: T }>]
        : [],
    );
  }

  of<T extends MemberEffect['type']>(type: T): Extract<MemberEffect, { type: T }>[] {
    return this.last.filter((effect): effect is Extract<MemberEffect, { type: T }> => effect.type === type);
  }
}

const assignmentOf = (attempt: number): Assignment => ({
  task: 'abcdefghijkl',
  attempt,
  epoch: 1,
  role: 'execute',
  correlation: 'c',
  spec: taskSpec.parse({ kind: 'command', argv: ['true'] }),
  bundles: [],
  nonce: '0'.repeat(32),
  secrets: {},
  verify: null,
});
const leaseOf = ({ task, attempt, epoch }: Assignment) => ({ task, attempt, epoch });

test('where the policy ceases to hold everything stops in the step that hears it, told as the owner’s; then it goes on', () => {
  const bar = 'is in use by its owner (policy idle)';
  const member = new Member();
  member.connect();
  const [one] = [member.assign(1)];
  member.step({ type: 'policy', bar });
  assert.equal(
    member.of('stop').map(({ why }) => why),
    ['policy'],
  );
  const [told] = member.sent('capacity');
  assert.is(told?.capacity.ownerPaused, true);
  assert.is(told?.capacity.bar, bar);
  member.step({ type: 'gone', lease: leaseOf(one) });
  assert.is(member.sent('stopped')[0]?.why, 'owner');
  assert.match(member.sent('stopped')[0]?.detail ?? '', /policy/);
  member.assign(2);
  assert.equal(member.of('start'), [], 'nothing is started meanwhile');
  assert.is(member.sent('stopped')[0]?.why, 'owner');
  member.step({ type: 'owner', act: 'pause' });
  member.step({ type: 'policy', bar: null });
  assert.is(member.sent('capacity')[0]?.capacity.ownerPaused, true, 'the owner’s own pause stands');
  assert.is(member.sent('capacity')[0]?.capacity.bar, undefined);
  member.step({ type: 'owner', act: 'resume' });
  assert.is(member.sent('capacity')[0]?.capacity.ownerPaused, false);
  member.assign(3);
  assert.is(member.of('start').length, 1);
});

const IN_USE = 'is in use by its owner (policy idle)';
const kinds = (effects: MemberEffect[]): string[] =>
  effects.map((effect) => (effect.type === 'send' ? effect.message.type : effect.type));

test('an owner who comes back suspends what runs at once; it goes on where he leaves within the grace (promise 15)', () => {
  const member = new Member();
  member.connect();
  const one = member.assign(1);
  member.step({ type: 'progress', lease: leaseOf(one), phase: 'run', logBytes: 7 });
  member.step({ type: 'policy', bar: IN_USE, brief: true });
  assert.equal(kinds(member.last), ['progress', 'suspend', 'capacity']);
  const [told] = member.sent('progress');
  assert.equal([told?.phase, told?.logBytes, told?.suspended], ['run', 7, true]);
  assert.equal(
    member.core.attempts.map(({ phase }) => phase),
    ['running'],
  );
  member.step({ type: 'policy', bar: 'is busy with what its owner runs (policy load=50%)', brief: true });
  assert.equal(kinds(member.last), ['capacity'], 'once is enough');
  assert.ok(kinds(member.tick(10_000)).includes('heartbeat'), 'its lease goes on');
  member.hear({ type: 'beat', sequence: 1, checkpoint: null });
  member.step({ type: 'policy', bar: null });
  assert.equal(kinds(member.last), ['resume', 'progress', 'capacity']);
  assert.is(member.sent('progress')[0]?.suspended, undefined);
  for (let second = 0; second < 120; second += 5) {
    member.hear({ type: 'beat', sequence: 1, checkpoint: null });
    assert.not.ok(kinds(member.tick(5_000)).includes('stop'), 'the grace is over with the return');
  }
});

test('an owner who stays evicts what was suspended after the grace: ended as his, with or without a founder', () => {
  for (const online of [true, false]) {
    const member = new Member({ evictMs: 3_000 });
    member.connect();
    const one = member.assign(1);
    member.step({ type: 'policy', bar: IN_USE, brief: true });
    if (!online) member.step({ type: 'disconnected', session: member.session });
    assert.equal(
      kinds(member.tick(2_750)).filter((kind) => kind === 'stop'),
      [],
    );
    assert.equal(
      kinds(member.tick(250)).filter((kind) => kind !== 'heartbeat'),
      ['stop', 'resume'],
      'told to end before anything goes on',
    );
    member.step({ type: 'gone', lease: leaseOf(one) });
    if (online) assert.is(member.sent('stopped')[0]?.why, 'owner');
    else assert.is(member.core.attempts[0]?.phase, 'ended');
  }
});

test('a member that is stopped while something is suspended leaves its machine’s sandbox going', () => {
  const member = new Member();
  member.connect();
  member.assign(1);
  member.step({ type: 'policy', bar: IN_USE, brief: true });
  member.step({ type: 'owner', act: 'shutdown' });
  assert.equal(kinds(member.last), ['stop', 'resume', 'capacity']);
});

test('a goal, which asks models, and what lasts, such as the end of the hours, stop at once', () => {
  const member = new Member();
  member.connect();
  const goal = {
    ...assignmentOf(1),
    spec: taskSpec.parse({
      kind: 'code',
      code: { goal: 'mend it' },
      checks: ['true'],
      repository: REPOSITORY,
    }),
  };
  member.hear({ type: 'assign', assignment: goal });
  member.assign(2);
  member.step({ type: 'policy', bar: IN_USE, brief: true });
  assert.equal(
    member.of('stop').map(({ lease }) => lease.attempt),
    [1],
  );
  assert.is(member.of('suspend').length, 1);
  member.step({ type: 'policy', bar: 'works only at its owner’s hours' });
  assert.equal(
    member.of('stop').map(({ lease }) => lease.attempt),
    [2],
  );
  const strict = new Member({ evictMs: 0 });
  strict.connect();
  strict.assign(1);
  strict.step({ type: 'policy', bar: IN_USE, brief: true });
  assert.is(strict.of('stop').length, 1);
});

test('a founder that is met anew is told what is suspended; pause and stop end it at once', () => {
  const member = new Member();
  member.connect();
  const one = member.assign(1);
  member.step({ type: 'started', lease: leaseOf(one) });
  member.step({ type: 'policy', bar: IN_USE, brief: true });
  member.last = member.connect([leaseOf(one)]);
  assert.is(member.sent('progress')[0]?.suspended, true);
  member.step({ type: 'owner', act: 'pause' });
  assert.equal(
    member.of('stop').map(({ why }) => why),
    ['owner'],
  );
});

test('a machine whose policy does not hold at its start says so in its hello', () => {
  const member = new Member({ bar: 'works only at its owner’s hours' });
  member.last = member.connect();
  const hello = member.of('send').find(({ message }) => message.type === 'hello')?.message;
  assert.ok(hello?.type === 'hello' && hello.capacity.ownerPaused);
});

test('the owner’s stop stops everything in the step that hears it, with or without a founder (promise 15)', () => {
  for (const online of [true, false]) {
    const member = new Member();
    member.connect();
    const [one, two] = [member.assign(1), member.assign(2)];
    if (!online) member.step({ type: 'disconnected', session: member.session });
    member.step({ type: 'owner', act: 'pause' });
    assert.equal(
      member.of('stop').map(({ lease, why }) => [lease, why]),
      [one, two].map((assignment) => [leaseOf(assignment), 'owner']),
    );
    if (online) assert.is(member.sent('capacity')[0]?.capacity.ownerPaused, true);
  }
});

test('a machine its owner has paused refuses work, also after a restart', () => {
  const member = new Member({ ownerPaused: true });
  member.connect();
  member.assign();
  assert.is(member.of('start').length, 0);
  assert.is(member.sent('stopped')[0]?.why, 'owner');
  member.step({ type: 'owner', act: 'resume' });
  member.assign(2);
  assert.is(member.of('start').length, 1);
});

test('an owner who acts between hello and welcome is heard after it', () => {
  const member = new Member({ ownerPaused: true });
  member.session = 5;
  member.step({ type: 'connected', session: 5 });
  member.step({ type: 'owner', act: 'resume' });
  member.hear(welcome());
  assert.is(member.sent('capacity')[0]?.capacity.ownerPaused, false);
});

const welcome = (): Welcome => ({
  type: 'welcome',
  version: { major: 1, minor: 1 },
  features: [],
  mesh: MESH,
  epoch: 1,
  heartbeatMs: 5_000,
  leaseMs: 15_000,
  paused: false,
  resume: [],
  checkpoint: null,
});

test('a founder of an epoch that is over is not obeyed, on a session that opens or on the one that is open (promise 8)', () => {
  const told = new Member({ epoch: 2 });
  told.session = 5;
  told.step({ type: 'connected', session: 5 });
  told.hear(welcome());
  assert.is(told.of('close').length, 1, 'its welcome ends the session');
  told.assign();
  assert.is(told.of('start').length, 0);

  const heard = new Member();
  heard.connect();
  heard.assign();
  assert.is(heard.of('start').length, 1);
  heard.step({ type: 'epoch', epoch: 2 });
  assert.is(heard.of('close').length, 1);
  assert.is(heard.of('stop').length, 0, 'what runs goes on, for the new founder to take up');
  heard.assign(2);
  assert.is(heard.of('start').length, 0, 'the old one gives out nothing more');
  heard.step({ type: 'epoch', epoch: 1 });
  heard.session = 6;
  heard.step({ type: 'connected', session: 6 });
  heard.hear({ ...welcome(), epoch: 2 });
  heard.assign(3);
  assert.is(heard.of('start').length, 1, 'and the new one does');
});

test('without a word from the founder for a lease, its work is stopped (promise 10)', () => {
  const member = new Member();
  member.connect();
  member.assign();
  member.step({ type: 'disconnected', session: member.session });
  member.tick(14_750);
  assert.is(member.of('stop').length, 0);
  member.tick(250);
  assert.is(member.of('stop')[0]?.why, 'lease');
});

test('a word that lay waiting while the machine slept does not renew a lease that is over', () => {
  const member = new Member();
  member.connect();
  member.assign();
  member.now += 20_000;
  member.hear({ type: 'beat', sequence: 1, checkpoint: null });
  assert.is(member.of('stop')[0]?.why, 'lease');
});

test('beats renew the lease, and heartbeats are slower when nothing runs', () => {
  const member = new Member();
  member.connect();
  member.assign();
  for (let round = 0; round < 4; round += 1) {
    member.tick(5_000);
    assert.is(member.sent('heartbeat').length, 1);
    member.hear({ type: 'beat', sequence: round, checkpoint: null });
    assert.is(member.of('stop').length, 0);
  }
  const idle = new Member();
  idle.connect();
  idle.tick(14_750);
  assert.is(idle.sent('heartbeat').length, 0);
  idle.tick(250);
  assert.is(idle.sent('heartbeat').length, 1);
});

test('a session on which the founder has fallen silent is closed, so that another is dialled', () => {
  const member = new Member();
  member.connect();
  member.tick(30_000);
  assert.equal(member.of('close'), [{ type: 'close', session: member.session, silent: true }]);
});

test('a result is sent again after each reconnect until it is settled, and then forgotten', () => {
  const member = new Member();
  member.connect();
  const assignment = member.assign();
  const result = resultOf(PEER, assignment);
  member.step({ type: 'finished', result });
  assert.equal(member.sent('result')[0]?.result, result);
  for (let round = 0; round < 2; round += 1) {
    member.step({ type: 'disconnected', session: member.session });
    member.last = member.connect();
    assert.equal(member.sent('hello')[0]?.ready, [leaseOf(assignment)]);
    assert.equal(member.sent('result')[0]?.result, result);
  }
  member.hear({ type: 'settled', ...leaseOf(assignment), correlation: 'c', accepted: false, why: null });
  assert.equal(member.of('forget')[0]?.lease, leaseOf(assignment));
  assert.equal(member.core.attempts, []);
});

test('results on the disk of a restarted machine are sent', () => {
  const result = resultOf(PEER, assignmentOf(3));
  const member = new Member({ ready: [result] });
  member.last = member.connect();
  assert.equal(member.sent('hello')[0]?.ready, [leaseOf(assignmentOf(3))]);
  assert.equal(member.sent('result')[0]?.result, result);
});

test('what the welcome does not name is stopped, what it names goes on', () => {
  const member = new Member();
  member.connect();
  const [one, two] = [member.assign(1), member.assign(2)];
  member.step({ type: 'started', lease: leaseOf(two) });
  member.step({ type: 'disconnected', session: member.session });
  member.last = member.connect([leaseOf(two)]);
  assert.equal(
    member.of('stop').map(({ lease }) => lease),
    [leaseOf(one)],
  );
  assert.equal(member.sent('started').length, 1, 'said again, since the founder may not have heard it');
});

test('each stop is asked once, whoever asks how often', () => {
  const member = new Member();
  member.connect();
  const assignment = member.assign();
  const cancel = { type: 'cancel', ...leaseOf(assignment), correlation: 'c', why: 'cancelled' } as const;
  assert.is(member.hear(cancel).filter((effect) => effect.type === 'stop').length, 1);
  assert.equal(member.hear(cancel), []);
  assert.equal(member.hear({ type: 'pause' }), [{ type: 'meshPaused', paused: true }]);
  assert.equal(member.hear({ type: 'pause' }), []);
  member.step({ type: 'owner', act: 'pause' });
  assert.is(member.of('stop').length, 0);
  member.step({ type: 'gone', lease: leaseOf(assignment) });
  assert.is(member.sent('stopped')[0]?.why, 'cancelled');
});

test('a cancel of what is not here is answered, so that the founder frees the slot', () => {
  const member = new Member();
  member.connect();
  member.hear({ type: 'cancel', ...leaseOf(assignmentOf(1)), correlation: 'c', why: 'superseded' });
  assert.is(member.sent('stopped')[0]?.why, 'unknown');
});

test('an attempt that ended while it was being stopped still shows its result', () => {
  const member = new Member();
  member.connect();
  const assignment = member.assign();
  member.hear({ type: 'cancel', ...leaseOf(assignment), correlation: 'c', why: 'superseded' });
  member.step({ type: 'finished', result: resultOf(PEER, assignment) });
  assert.is(member.sent('result').length, 1);
  assert.equal(member.step({ type: 'gone', lease: leaseOf(assignment) }), []);
});

test('what was stopped while the founder was away is told after the welcome', () => {
  const member = new Member();
  member.connect();
  const assignment = member.assign();
  member.step({ type: 'disconnected', session: member.session });
  member.step({ type: 'owner', act: 'pause' });
  member.step({ type: 'gone', lease: leaseOf(assignment) });
  member.last = member.connect([leaseOf(assignment)]);
  assert.equal(member.sent('hello')[0]?.held, [leaseOf(assignment)]);
  assert.is(member.sent('stopped')[0]?.why, 'owner');
  assert.equal(member.core.attempts, []);
});

test('an assignment that is here already changes nothing; one past the slots is refused with words', () => {
  const member = new Member();
  member.connect();
  member.assign(1);
  member.assign(1);
  assert.equal(member.last, []);
  member.assign(2);
  member.assign(3);
  const [refusal] = member.sent('stopped');
  assert.equal([refusal?.why, refusal?.detail], ['refused', 'no slot is free']);
});

test('without a sandbox nothing is started (promise 14)', () => {
  const member = new Member({ capacity: { ...CAPACITY, sandbox: null } });
  member.connect();
  member.assign();
  assert.is(member.of('start').length, 0);
  assert.is(member.sent('stopped')[0]?.why, 'refused');
});

test('a pause of the mesh stops all and outlasts a reconnect; a resume lets work in again (promise 15)', () => {
  const member = new Member();
  member.connect();
  member.assign(1);
  member.hear({ type: 'pause' });
  assert.is(member.of('stop')[0]?.why, 'paused');
  member.connect([], true);
  member.assign(2);
  assert.is(member.sent('stopped')[0]?.why, 'paused');
  member.hear({ type: 'resume' });
  member.assign(3);
  assert.is(member.of('start').length, 1);
});

test('words of a session before this one are not heard', () => {
  const member = new Member();
  member.connect();
  member.connect();
  member.step({ type: 'received', session: 1, message: { type: 'assign', assignment: assignmentOf(1) } });
  assert.equal(member.last, []);
});

test('a member that is revoked stops its work and dials no more', () => {
  const member = new Member();
  member.connect();
  member.assign();
  member.hear({ type: 'goodbye', code: 'SF_REVOKED', message: 'revoked' });
  assert.equal(
    member.last.map((effect) => effect.type),
    ['close', 'stop', 'refused'],
  );
});

test('the newest checkpoint is kept, an older one is not', () => {
  const text = (size: number): string => `mesh\n${size}\nroot\n\n— sig`;
  const member = new Member({ checkpoint: text(5) });
  member.connect();
  member.hear({ type: 'beat', sequence: 1, checkpoint: text(4) });
  assert.is(member.of('keepCheckpoint').length, 0);
  member.hear({ type: 'beat', sequence: 2, checkpoint: text(12) });
  assert.is(member.of('keepCheckpoint')[0]?.checkpoint, text(12));
  assert.is(checkpointSize(member.core.checkpoint), 12);
  assert.is(checkpointSize('mesh\n1e3\n'), -1);
});

test('a member that is called answers with a heartbeat at once', () => {
  const member = new Member();
  member.connect();
  member.tick(1_000);
  assert.is(member.sent('heartbeat').length, 0);
  member.hear({ type: 'call' });
  assert.is(member.sent('heartbeat').length, 1);
});

test('a machine that slept past its lease stops its attempt at the first thing it hears, which renews nothing', () => {
  const member = new Member();
  member.connect();
  member.assign();
  // The clock of a member goes on while it sleeps (WakefulClock): nothing came between.
  member.now += 60_000;
  member.hear({ type: 'beat', sequence: 1, checkpoint: null });
  assert.equal(
    member.of('stop').map(({ why }) => why),
    ['lease'],
  );
});

test('it asks to be ticked when a heartbeat is due, or the silence of the founder ends something', () => {
  const member = new Member();
  assert.is(member.core.tickAt, Number.POSITIVE_INFINITY, 'nothing runs, and nobody is there');
  member.connect();
  const beat = member.core.tickAt;
  assert.ok(beat > member.now);
  member.now = beat - 1;
  assert.equal(member.step({ type: 'tick' }), []);
  member.now = beat;
  member.step({ type: 'tick' });
  assert.is(member.sent('heartbeat').length, 1);
  const assignment = member.assign();
  const heardAt = member.now;
  member.step({ type: 'disconnected', session: member.session });
  assert.is(member.core.tickAt, heardAt + welcome().leaseMs);
  member.now = member.core.tickAt;
  member.step({ type: 'tick' });
  assert.equal(
    member.of('stop').map(({ lease }) => lease),
    [leaseOf(assignment)],
  );
});

test.run();
