import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { cockpitText } from '../../../hub/cli/cockpit.ts';
import type { StatusObject } from '../../../node/api/objects.ts';
import { painter } from '../../../node/cli/render.ts';
import { Fleet, peerOf } from '../core/fleet.ts';

const NOW = 1_700_000_000_000;
const plain = painter(false);

/** A mesh in which everything that a cockpit can show is there. */
const FULL: StatusObject = {
  mesh: 'ab'.repeat(32),
  name: 'home',
  epoch: 1,
  founder: peerOf('founder'),
  size: 142,
  root: 'cd'.repeat(32),
  paused: false,
  draining: false,
  nodes: { online: 2, total: 4 },
  slots: { used: 2, total: 5 },
  queue: { queued: 12, running: 2 },
  warnings: [],
  machines: [
    machine('laptop-3', 'pending', { code: '482-190-337' }),
    machine('founder', 'online', { work: 'takes tasks' }),
    machine('attic', 'draining', { work: 'is draining' }),
    machine('bed\x1b[2Jroom', 'paused', { work: 'is paused by its owner' }),
    machine('cellar', 'offline', { work: 'is offline' }),
  ],
  waits: { busy: 7, noFit: 3, secret: 2 },
  tasks: [
    {
      id: 'abcdefghijkl',
      role: 'execute',
      member: { id: 'x', name: 'founder' },
      phase: 'run',
      since: NOW - 12_000,
    },
    {
      id: 'bcdefghijklm',
      role: 'verify',
      member: { id: 'y', name: 'attic' },
      phase: 'check',
      since: NOW - 240_000,
    },
  ],
  failures: [
    { id: 'cdefghijklmn', reason: 'check', detail: `red\n${'x'.repeat(300)}`, finishedAt: NOW - 7_200_000 },
  ],
  proposals: { count: 2, newest: 'defghijklmno' },
  needs: [
    {
      what: 'laptop-3 asks to be let in, if its screen shows 482-190-337 too',
      command: 'mesh-hub node approve 482-190-337',
    },
    { what: '2 tasks wait for the secret TOKEN', command: 'mesh-hub secret set TOKEN' },
  ],
  replicas: [
    { id: peerOf('attic'), name: 'attic', lag: 0, from: 0 },
    { id: peerOf('cellar'), name: 'cellar', lag: null, from: null },
  ],
  risks: [
    'no replica yet: if this disk dies, the mesh is lost; let a machine in that keeps a copy of the log: ' +
      'mesh-hub invite --role worker --role replica',
  ],
};

function machine(name: string, state: StatusObject['machines'][number]['state'], more: object) {
  return { id: peerOf(name), name, state, code: null, slots: { used: 0, total: 2 }, work: null, ...more };
}

test('status at 80 columns: what needs a person, what is at risk, machines, queue, tasks, failures', () => {
  const text = cockpitText(FULL, plain, 80, NOW);
  for (const line of [
    /^home {2}epoch 1, 142 entries, founder founder$/m,
    /^needs you$/m,
    /^ {4}mesh-hub node approve 482-190-337$/m,
    /^ {2}2 tasks wait for the secret TOKEN: mesh-hub secret set TOKEN$/m,
    /mesh-hub task diff defghijklmno$/m,
    /^at risk\n {2}no replica yet: [\s\S]*? keeps a copy of the log:\n {4}mesh-hub invite --role worker --role replica$/m,
    /^machines {2}2 of 4 online, 2 of 5 slots used$/m,
    /^ {2}laptop-3 +pending +code 482-190-337$/m,
    /^ {2}founder +online +0\/2$/m,
    /^ {2}attic +draining +0\/2$/m,
    /^ {2}bed\\x1b\[2Jroom +paused +0\/2 +is paused by its owner$/m,
    /^queue {2}12 queued, 2 running$/m,
    /^ {2}7 all machines that fit are busy$/m,
    /^ {2}abcdefghijkl {2}run {7}12s {3}on founder$/m,
    /^ {2}bcdefghijklm {2}check {5}4m {4}verified by attic$/m,
    /^ {2}cdefghijklmn {2}check +2h +red\\x0axx/m,
  ]) {
    assert.match(text, line);
  }
});

for (const columns of [80, 60, 40, 20]) {
  test(`status fits ${columns} columns, and what is to be typed is whole`, () => {
    for (const line of cockpitText(FULL, plain, columns, NOW).split('\n')) {
      assert.ok([...line].length <= columns, `${[...line].length}: ${line}`);
      assert.not.match(line, /\x1b|\r/);
    }
    if (columns >= 40)
      assert.match(cockpitText(FULL, plain, columns, NOW), /mesh-hub node approve 482-190-337$/m);
  });
}

test('colours only where they are asked for', () => {
  assert.not.match(cockpitText(FULL, plain, 80, NOW), /\x1b/);
  const painted = cockpitText(FULL, painter(true), 80, NOW);
  assert.match(painted, /\x1b\[32monline/);
  assert.is(painted.replace(/\x1b\[\d+m/g, ''), cockpitText(FULL, plain, 80, NOW), 'they change no width');
});

test('a mesh of the core: waits by kind, tasks with phase, failures, secrets, and what is at risk', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  const now = (): StatusObject => fleet.ask<StatusObject>({ op: 'status' });
  assert.match(now().risks.join('\n'), /no replica yet[\s\S]*ada is the only machine that works/);
  const failed = fleet.submit();
  const why = { outcome: 'failed', reason: 'check', fault: 'task', exitCode: 1, detail: 'red' } as const;
  fleet.finish(ada, fleet.running(ada), why);
  const ids = Array.from({ length: 4 }, () => fleet.submit());
  fleet.submit({ secrets: ['TOKEN'] });
  fleet.submit({ labels: { gpu: 'yes' } });
  const status = now();
  assert.equal(status.waits, { busy: 2, secret: 1, noFit: 1 });
  assert.equal(
    status.tasks.map(({ id, phase, member }) => [id, phase, member.name]),
    ids.slice(0, 2).map((id) => [id, 'assigned', 'ada']),
  );
  assert.equal(
    status.failures.map(({ id, reason, detail }) => [id, reason, detail]),
    [[failed, 'check', 'red']],
  );
  assert.equal(status.needs, [
    { what: '1 task waits for the secret TOKEN', command: 'mesh-hub secret set TOKEN' },
  ]);
  fleet.ask({ op: 'mesh.pause' });
  assert.equal(now().waits, { paused: 6 });
  fleet.join('bob');
  assert.not.match(now().risks.join('\n'), /only machine/);
});

test('whoever may not read the tasks of others sees the figures alone', () => {
  const fleet = new Fleet();
  const ada = fleet.join('ada');
  fleet.join('sam', { roles: ['submitter'] });
  fleet.submit();
  const why = { outcome: 'failed', reason: 'check', fault: 'task', exitCode: 1, detail: 'red' } as const;
  fleet.finish(ada, fleet.running(ada), why);
  fleet.submit();
  const by = { kind: 'peer', peer: peerOf('sam') } as const;
  const { tasks, failures, queue } = fleet.ask<StatusObject>({ op: 'status' }, by);
  assert.equal([tasks, failures, queue.running], [[], [], 1]);
});

test.run();
