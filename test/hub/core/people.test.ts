import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Actor } from '../../../ledger/lines/events.ts';
import type { MemberHello } from '../../../protocol/session.ts';
import { type TaskSpec, taskSpec } from '../../../protocol/task.ts';
import { Fleet, HELLO, hex, peerOf, type TestMember } from './fleet.ts';

/** What people and their programs ask for: pause, stop, submissions, members. */
const spec = (more: object = {}): TaskSpec => taskSpec.parse({ kind: 'command', argv: ['true'], ...more });
const submission = (more: object = {}) =>
  ({ op: 'task.submit', spec: spec(more), bundle: null, correlation: null }) as const;
const peer = (name: string): Actor => ({ kind: 'peer', peer: peerOf(name) });

test('a pause stops everything at once, gives nothing out, outlasts a restart, and costs no retry (promise 15)', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const ids = [fleet.submit(), fleet.submit()];
  fleet.ask({ op: 'mesh.pause' });
  for (const member of [ada, bob])
    assert.ok(member.core.attempts.every((attempt) => attempt.phase === 'stopping'));
  for (const id of ids) assert.equal([fleet.task(id).state, fleet.task(id).retriesUsed], ['queued', 0]);
  assert.ok(
    fleet.entries.filter((entry) => entry.type === 'attempt.ended').length === 2,
    'the log says so at once',
  );
  for (const member of [ada, bob]) fleet.gone(member, fleet.running(member));
  const later = fleet.submit();
  fleet.restart();
  for (const member of [ada, bob]) fleet.connect(member);
  fleet.advance(30_000);
  assert.is(ada.running.size + bob.running.size, 0);
  assert.match(fleet.why(later).reasons.join(), /the mesh is paused/);
  fleet.ask({ op: 'mesh.resume' });
  assert.is(ada.running.size + bob.running.size, 3);
});

test('what had ended before the pause and is being fetched still counts', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ checks: [] });
  fleet.holdCollects = [];
  fleet.finish(ada, fleet.running(ada));
  fleet.ask({ op: 'mesh.pause' });
  fleet.collected(fleet.holdCollects[0]!);
  assert.is(fleet.task(id).accepted?.attempt, 1);
});

test('a person stops a task: what runs is cancelled, the rest of it never starts', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit();
  fleet.ask({ op: 'task.stop', task: id });
  assert.is(fleet.task(id).state, 'cancelled');
  assert.is(ada.core.attempts[0]?.phase, 'stopping');
  assert.is(fleet.refusal({ op: 'task.stop', task: id }), 'SF_CONFLICT');
});

test('a task that can never be verified is not taken where that is asked', () => {
  const fleet = new Fleet();
  assert.is(fleet.refusal(submission({ requireVerified: true, repository: null })), 'SF_USAGE');
  assert.is(fleet.refusal(submission({ repository: null })), 'accepted');
});

test('without a repository a result is delivered unverified, whatever its checks said (promise 19)', () => {
  const fleet = new Fleet();
  const [ada] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ repository: null, on: 'ada' });
  fleet.finish(ada, fleet.running(ada));
  const { converged } = fleet.task(id);
  assert.is(converged?.state, 'delivered');
  assert.is(converged?.verified, false);
  assert.ok(converged!.confidence <= 0.3);
});

test('a task run again is a new one with the same spec', () => {
  const fleet = new Fleet();
  const id = fleet.submit({ argv: ['make', 'all'] });
  const again = fleet.ask<{ id: string }>({ op: 'task.rerun', task: id }).id;
  assert.is.not(again, id);
  assert.equal(fleet.task(again).spec, fleet.task(id).spec);
  assert.is(fleet.task(again).rerunOf, id);
});

test('applying is logged with who did it, and only of what was delivered', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ checks: [] });
  const commit = 'a'.repeat(40);
  assert.is(fleet.refusal({ op: 'task.applied', task: id, commit }), 'SF_CONFLICT');
  fleet.finish(ada, fleet.running(ada));
  fleet.ask({ op: 'task.applied', task: id, commit });
  assert.is(fleet.entries.at(-1)?.type, 'task.applied');
  const size = fleet.entries.length;
  fleet.ask({ op: 'task.applied', task: id, commit });
  assert.is(fleet.entries.length, size, 'said again by the same person it is nothing new');
  const peer: Actor = { kind: 'peer', peer: fleet.join('eve', { roles: ['submitter', 'operator'] }).peer };
  const joined = fleet.entries.length;
  fleet.ask({ op: 'task.applied', task: id, commit }, peer);
  assert.is(fleet.entries.length, joined + 1);
});

test('what a submission names must be there, and a refused one logs nothing', () => {
  const fleet = new Fleet({ config: { openTasksMax: 1 } });
  fleet.join('ada');
  const size = fleet.entries.length;
  const repository = { id: 'b'.repeat(40), name: 'app', ref: 'main', base: 'c'.repeat(40) };
  const bundle = { commit: 'c'.repeat(40), bundle: hex('blob'), prerequisites: ['d'.repeat(40)] };
  assert.is(fleet.refusal(submission({ on: 'nobody' })), 'SF_NOT_FOUND');
  assert.is(fleet.refusal(submission({ repository })), 'SF_REPOSITORY');
  assert.is(fleet.refusal({ ...submission({ repository }), bundle }), 'SF_REPOSITORY');
  assert.is(
    fleet.refusal(submission({ argv: Array.from({ length: 20 }, () => 'x'.repeat(8000)) })),
    'SF_USAGE',
  );
  assert.is(fleet.entries.length, size);
  fleet.ask({ ...submission({ repository }), bundle: { ...bundle, prerequisites: [] } });
  assert.equal(fleet.ask({ op: 'repository.known', commits: [repository.base, 'e'.repeat(40)] }), {
    commits: [repository.base],
  });
  assert.is(fleet.refusal(submission()), 'SF_FULL');
});

test('a member is sent every bundle that leads to the base of its task', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const commit = (name: string): string => hex(name).slice(0, 40);
  const send = (base: string, prerequisites: string[]): void => {
    const repository = { id: 'b'.repeat(40), name: 'app', ref: 'main', base: commit(base) };
    const bundle = { commit: commit(base), bundle: hex(base), prerequisites: prerequisites.map(commit) };
    fleet.ask({ ...submission({ repository }), bundle });
  };
  send('one', []);
  send('two', ['one']);
  const [, second] = [...ada.running.values()];
  assert.equal(
    second?.bundles.map((bundle) => bundle.commit),
    [commit('one'), commit('two')],
  );
});

test('peers do what their roles allow, and stop only their own work', () => {
  const fleet = new Fleet();
  fleet.join('worker');
  fleet.join('sam', { roles: ['submitter'] });
  fleet.join('tom', { roles: ['submitter'] });
  fleet.join('vic', { roles: ['viewer'] });
  assert.is(fleet.refusal(submission(), peer('worker')), 'SF_REFUSED');
  assert.is(fleet.refusal(submission(), peer('vic')), 'SF_REFUSED');
  assert.is(fleet.refusal(submission(), peer('stranger')), 'SF_REFUSED');
  const { id } = fleet.ask<{ id: string }>(submission(), peer('sam'));
  assert.is(fleet.refusal({ op: 'task.get', task: id }, peer('vic')), 'accepted');
  assert.is(fleet.refusal({ op: 'task.stop', task: id }, peer('tom')), 'SF_REFUSED');
  assert.is(fleet.refusal({ op: 'mesh.pause' }, peer('sam')), 'SF_REFUSED');
  assert.is(fleet.refusal({ op: 'member.leave', peer: peerOf('vic') }, peer('sam')), 'SF_REFUSED');
  assert.is(fleet.refusal({ op: 'member.leave', peer: peerOf('vic') }, peer('vic')), 'accepted');
  assert.is(fleet.refusal({ op: 'task.stop', task: id }, peer('sam')), 'accepted');
});

test('a second machine of one name is admitted with a suffix, and told so', () => {
  const fleet = new Fleet();
  fleet.join('ada');
  const invite = hex('x');
  const grant = { invite, expiresAt: fleet.wall + 1, uses: 1, roles: [], labels: {}, owner: null };
  fleet.ask({ op: 'invite.create', invite: { ...grant, by: peer('founder') } });
  const via = { kind: 'invite' as const, secretHash: invite };
  const second = { op: 'member.admit' as const, peer: peerOf('twin'), name: 'ada', owner: null, via };
  assert.is(fleet.ask<{ name: string }>(second).name, 'ada-2');
  assert.is(fleet.ask<{ name: string }>(second).name, 'ada-2', 'asking again uses nothing up');
  assert.is(fleet.refusal({ ...second, peer: peerOf('third') }), 'SF_INVITE');
});

test('an expired invite lets nobody in', () => {
  const fleet = new Fleet();
  const invite = hex('x');
  const grant = { invite, expiresAt: fleet.wall + 5, uses: 1, roles: [], labels: {}, owner: null };
  fleet.ask({ op: 'invite.create', invite: { ...grant, by: peer('founder') } });
  fleet.wall += 5;
  const via = { kind: 'invite' as const, secretHash: invite };
  assert.is(
    fleet.refusal({ op: 'member.admit', peer: peerOf('x'), name: 'x', owner: null, via }),
    'SF_INVITE',
  );
});

test('a revoked member loses its leases and its connection at once, and its key is refused for good', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit({ checks: [] });
  const [holder, other] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  fleet.ask({ op: 'member.revoke', member: holder.name, reason: 'lost' });
  assert.is(holder.core.attempts[0]?.phase, 'stopping');
  assert.ok(holder.effects.some((effect) => effect.type === 'refused' && effect.code === 'SF_REVOKED'));
  assert.is(fleet.running(other).task, id);
  assert.ok(fleet.log.some((effect) => effect.type === 'membership' && effect.removed[0] === holder.peer));
  fleet.connect(holder);
  assert.is(holder.session, null);
  const via = { kind: 'approval' as const, code: '1', roles: [] };
  assert.is(
    fleet.refusal({ op: 'member.admit', peer: holder.peer, name: 'x', owner: null, via }),
    'SF_REVOKED',
  );
  assert.is(fleet.ask<{ state: string }>({ op: 'node.get', member: holder.peer }).state, 'revoked');
  const byName = fleet.ask<{ id: string; state: string }>({ op: 'node.get', member: holder.name });
  assert.equal([byName.id, byName.state], [holder.peer, 'revoked'], 'its name is still its own');
  assert.is(fleet.refusal({ op: 'member.revoke', member: holder.name, reason: null }), 'SF_CONFLICT');
  assert.is(fleet.refusal({ op: 'member.revoke', member: 'nobody', reason: null }), 'SF_NOT_FOUND');
});

test('a submitter has what it sent, and of others’ work nothing; viewers read all; secrets are the operator’s', () => {
  const fleet = new Fleet();
  for (const name of ['ada', 'bob']) fleet.join(name, { roles: ['worker', 'submitter'] });
  fleet.join('eve', { roles: ['viewer'] });
  const { id } = fleet.ask<{ id: string }>(submission(), peer('ada'));
  const local = fleet.ask<{ id: string }>(submission()).id;
  const listed = (name: string): string[] =>
    fleet
      .ask<{ items: { id: string }[] }>({ op: 'task.list', states: null, cursor: null, limit: 9 }, peer(name))
      .items.map((task) => task.id);
  assert.equal([listed('ada'), listed('bob'), listed('eve')], [[id], [], [local, id]]);
  for (const op of ['task.get', 'task.why', 'task.stop', 'task.rerun'] as const) {
    assert.is(fleet.refusal({ op, task: id }, peer('bob')), 'SF_REFUSED', op);
    assert.is(fleet.refusal({ op, task: local }, peer('ada')), 'SF_REFUSED', op);
  }
  assert.is(fleet.ask<{ id: string }>({ op: 'task.get', task: id }, peer('eve')).id, id);
  assert.is(fleet.refusal(submission(), peer('eve')), 'SF_REFUSED', 'a viewer sends nothing');
  fleet.ask({ op: 'secret.set', name: 'KEY' });
  assert.is(fleet.refusal(submission({ secrets: ['KEY'], on: 'ada' }), peer('ada')), 'SF_REFUSED');
  assert.ok(fleet.ask<{ id: string }>(submission({ secrets: ['KEY'] })).id, 'whoever is at the founder may');
});

test('the founder cannot be revoked or leave', () => {
  const fleet = new Fleet();
  assert.is(fleet.refusal({ op: 'member.revoke', member: 'founder', reason: null }), 'SF_CONFLICT');
  assert.is(fleet.refusal({ op: 'member.leave', peer: peerOf('founder') }), 'SF_CONFLICT');
});

test('a member of another major version, or of another mesh, is told so and not served', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const foreign: [Partial<MemberHello>, string][] = [
    [{ version: { major: 2, minor: 0 } }, 'SF_VERSION'],
    [{ mesh: 'cd'.repeat(32) }, 'SF_REFUSED'],
  ];
  for (const [change, code] of foreign) {
    fleet.founder({ type: 'connected', peer: ada.peer, session: 77, hello: { ...HELLO, ...change } });
    const last = fleet.log.at(-1);
    assert.is(last?.type === 'close' && last.code, code);
  }
});

const TASK_FIELDS =
  'id kind state reason verified confidence executor verifier sameOwner attempts base branch commit exitCode receipt submitter correlation submittedAt finishedAt'.split(
    ' ',
  );
const NODE_FIELDS = 'id name owner roles state code slots models tools labels limits lag'.split(' ');
const MESH_FIELDS = 'mesh name epoch founder size root paused draining nodes slots queue warnings'.split(' ');

test('the fields of the contract are always there, null where they do not apply', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const has = (object: object, fields: string[]): void => {
    for (const field of fields) assert.is.not((object as Record<string, unknown>)[field], undefined, field);
  };
  const id = fleet.submit({ on: 'ada' });
  const look = (): void => {
    has(fleet.ask({ op: 'task.get', task: id }), TASK_FIELDS);
    has(
      fleet.ask<{ items: object[] }>({ op: 'task.list', states: null, cursor: null, limit: 5 }).items[0]!,
      TASK_FIELDS,
    );
    for (const node of fleet.ask<{ items: object[] }>({ op: 'node.list' }).items) has(node, NODE_FIELDS);
    has(fleet.ask({ op: 'status' }), MESH_FIELDS);
  };
  look();
  fleet.finish(ada, fleet.running(ada));
  look();
  fleet.finish(bob, fleet.running(bob, 'verify'));
  look();
  fleet.disconnect(ada);
  look();
});

test('lists are cut into pages that together name every task once, newest first', () => {
  const fleet = new Fleet();
  const ids = Array.from({ length: 7 }, () => fleet.submit());
  const listed: string[] = [];
  let cursor: string | null = null;
  do {
    const page: { items: { id: string }[]; next: string | null } = fleet.ask({
      op: 'task.list',
      states: ['queued'],
      cursor,
      limit: 3,
    });
    listed.push(...page.items.map((task) => task.id));
    cursor = page.next;
  } while (cursor !== null);
  assert.equal(listed, [...ids].reverse());
});

test('an answer does not change while it waits for the disk', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const id = fleet.submit({ checks: [] });
  const answer = fleet.ask<{ history: { end: unknown }[] }>({ op: 'task.get', task: id });
  fleet.finish(ada, fleet.running(ada));
  assert.is(answer.history[0]?.end, null);
});

test('of members that come at once each hears of the roster that has them all, and of none before it', () => {
  const fleet = new Fleet();
  const told = (member: TestMember): number[] =>
    member.effects.flatMap((effect) => (effect.type === 'fetchRoster' ? [effect.version] : []));
  const sign = (): number => {
    const version = fleet.core.state.mesh.size;
    fleet.founder({ type: 'roster', version, blob: hex(`roster ${version}`) });
    return version;
  };
  const ada = fleet.join('ada');
  const first = sign();
  assert.equal(told(ada), [first]);
  const [bob, cid] = [fleet.join('bob'), fleet.join('cid')];
  assert.equal([told(bob), told(cid)], [[], []], 'another is due');
  const second = sign();
  assert.equal([ada, bob, cid].map(told), [[first, second], [second], [second]]);
  fleet.disconnect(bob);
  fleet.connect(bob);
  assert.equal(told(bob), [second, second], 'who lacks it and comes back is told at once');
});

test.run();
