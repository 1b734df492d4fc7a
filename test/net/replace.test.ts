// limit: 120 s
import { cpSync, rmSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeObject } from '../../node/api/objects.ts';
import { Fleet, wake } from './fleet.ts';

/** A machine is re-imaged: its disk was wiped in mid-task, and it joins again. */
const fleet = await Fleet.start({ hub: { slots: 0 } });
test.after(() => fleet.close());

const node = (name: string): Promise<NodeObject> =>
  fleet.json<NodeObject & Record<string, unknown>>(['node', 'describe', name]);

test('a wiped machine takes its old place by an invite of the operator; while it is online nobody can', async () => {
  const invite = ['invite', '--label', 'room=2', '--owner', 'lab'];
  const { token } = await fleet.json<{ token: string }>(invite);
  fleet.configure('old', { slots: 1 });
  const old = fleet.join('old', [token, '--name', 'lab-07']);
  const { id } = await old.event('ready');
  const task = await fleet.submit(['sleep', '600'], { on: id as string });
  const anywhere = await fleet.submit(['sh', '-c', 'sleep 600; : mark-anywhere']);
  await fleet.about(task, 'attempt.started');

  const made = await fleet.json<{ token: string; roles: string[]; labels: object }>([
    'invite',
    '--replace',
    'lab-07',
  ]);
  assert.equal([made.roles, made.labels], [['worker', 'submitter'], { room: '2' }]);
  fleet.configure('new', { slots: 1 });
  const early = await fleet.node('new', ['join', made.token, '--port', '0', '--json']);
  assert.is(early.code, 2, early.stderr);
  assert.match(early.stderr, /"SF_CONFLICT".*lab-07 is online/);
  assert.is((await node('lab-07')).id, id, 'nothing has changed');

  // The disk is wiped; a copy of it was in somebody's drawer.
  await old.end('SIGKILL');
  cpSync(fleet.dir('old'), fleet.dir('drawer'), {
    recursive: true,
    filter: (path) => !path.endsWith('.sock'),
  });
  rmSync(fleet.dir('old'), { recursive: true });
  const again = fleet.join('new', [made.token]);
  const ready = await again.event('ready');
  assert.is(ready.name, 'lab-07');
  assert.is.not(ready.id, id);
  const now = await node('lab-07');
  assert.equal([now.id, now.owner, now.labels.room], [ready.id as string, 'lab', '2']);
  const lost = await fleet.about(task, 'attempt.ended');
  assert.is(lost.body.reason, 'lost');
  await wake('mark-anywhere');
  const ended = await fleet.ended(anywhere);
  assert.equal([ended.state, ended.executor?.id], ['delivered', ready.id as string]);

  const drawer = await fleet.node('drawer', ['start', '--port', '0', '--json']);
  assert.is(drawer.code, 4, drawer.stderr);
  assert.match(drawer.stderr, /"SF_REVOKED"/);
});

test('--replace stands alone: what that machine was is carried over (exit 2)', async () => {
  const both = await fleet.hub(['invite', '--replace', 'lab-07', '--uses', '3', '--json']);
  assert.is(both.code, 2);
  assert.match(both.stderr, /--replace.*--uses/);
  const founder = await fleet.hub(['invite', '--replace', 'hub', '--json']);
  assert.is(founder.code, 2);
});

test.run();
