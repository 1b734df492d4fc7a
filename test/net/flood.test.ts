// limit: 120 s
// alone: it measures answers and memory under load
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { connect } from 'node:net';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Fleet, gone, peakBytes, residentBytes } from './fleet.ts';

const MiB = 2 ** 20;
/** What a flood may add to the resident memory of any process, over what it held when idle. */
const GROWTH_BYTES = 192 * MiB;
/** Contract: cancel, pause and heartbeats pass within this, whatever the buffers hold. */
const PASSES_MS = 1_000;
/** Shorter than the lease: a slow process is not a lost one. */
const FREEZE_MS = 3_000;

const fleet = await Fleet.start({
  hub: { slots: 1, lease: '6s', heartbeat: '500ms' },
  members: { m1: { slots: 2 }, m2: { slots: 2 } },
});
const idle = new Map<string, number>();
const HUB = resolve(import.meta.dirname, '../../scripts/mesh-hub');
/** Followers that never read: two by the command, two by the bare socket. */
const deaf: { end(): Promise<void> }[] = [];
test.after(async () => {
  for (const follower of deaf) await follower.end();
  await fleet.close();
});

const daemons = (): [string, number][] => [
  ['hub', fleet.hubDaemon!.pid],
  ...[...fleet.members].map(([name, { pid }]): [string, number] => [name, pid]),
];
const flood = (mark: string, on: string): Promise<string> =>
  fleet.submit(['sh', '-c', `yes ${mark}`], { on, timeoutMs: 60_000 });

function deafCommand(task: string): void {
  const child = spawn(HUB, ['task', 'logs', '-f', task], {
    env: { ...process.env, MESH_HOME: fleet.dir('hub') },
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  deaf.push({
    end: async () => {
      child.stdout.destroy();
      if (child.exitCode === null && child.signalCode === null) {
        child.kill('SIGKILL');
        await once(child, 'exit');
      }
    },
  });
}

function deafSocket(task: string): void {
  const socket = connect(join(fleet.dir('hub'), 'run', 'api.sock'));
  socket.pause();
  socket.on('error', () => {});
  socket.write(`GET /v1/tasks/${task}/log?follow=1 HTTP/1.1\r\nHost: localhost\r\n\r\n`);
  deaf.push({ end: async () => void socket.destroy() });
}

test('gigabytes of output, followers that do not read, a slow member and a slow founder: memory stays bounded (promise 18)', async () => {
  for (const [name, pid] of daemons()) idle.set(name, residentBytes(pid));
  const tasks = [await flood('mark-a', 'm1'), await flood('mark-b', 'm2'), await flood('mark-c', 'hub')];
  for (const task of tasks) await fleet.about(task, 'attempt.started');
  for (const task of tasks) {
    deafCommand(task);
    deafSocket(task);
  }
  await delay(FREEZE_MS);
  for (const slow of [fleet.daemon('m1').child, fleet.hubDaemon!.child]) {
    slow.kill('SIGSTOP');
    await delay(FREEZE_MS);
    slow.kill('SIGCONT');
    // Time for heartbeats, so that two silences do not add up to a lease.
    await delay(2_000);
  }
  for (const [name, pid] of daemons()) {
    const grown = peakBytes(pid) - idle.get(name)!;
    console.log(
      `${name}: ${Math.round(idle.get(name)! / MiB)} MiB idle, ${Math.round(peakBytes(pid) / MiB)} MiB at the most`,
    );
    assert.ok(grown < GROWTH_BYTES, `${name} grew by ${Math.round(grown / MiB)} MiB`);
  }
  const lost = fleet.entries.filter(({ type }) => type === 'attempt.ended');
  assert.equal(lost, [], 'heartbeats passed: no lease ran out');
});

test('cancel passes within 1 s of all that', async () => {
  const task = fleet.entries.find(
    ({ type, body }) => type === 'task.submitted' && JSON.stringify(body).includes('mark-a'),
  )!;
  const began = performance.now();
  await fleet.client.post(`/v1/tasks/${task.body.task}/stop`);
  await gone('yes mark-a');
  const ms = performance.now() - began;
  console.log(`cancel: ${Math.round(ms)} ms`);
  assert.ok(ms < PASSES_MS, `gone after ${ms} ms`);
});

test('pause passes within 1 s of all that', async () => {
  const began = performance.now();
  await fleet.client.post('/v1/mesh/pause');
  await gone('yes mark-');
  const ms = performance.now() - began;
  console.log(`pause: ${Math.round(ms)} ms`);
  assert.ok(ms < PASSES_MS, `gone after ${ms} ms`);
});

test('what a flood printed is kept to its bound and says so; followers get to its end', async () => {
  for (const follower of deaf.splice(0)) await follower.end();
  await fleet.client.post('/v1/mesh/resume');
  const task = await fleet.submit(['sh', '-c', 'yes 0123456789abcdef | head -c 300M'], { on: 'm1' });
  let last = Buffer.alloc(0);
  for await (const piece of fleet.client.bytes(`/v1/tasks/${task}/log?follow=1`)) {
    last = Buffer.concat([last, piece]).subarray(-400);
  }
  const ended = await fleet.ended(task);
  assert.is(ended.state, 'delivered', `${ended.detail}`);
  const log = (ended as unknown as { log: { bytes: number } }).log;
  assert.ok(log.bytes <= 64 * MiB + 1024, `${log.bytes} bytes kept`);
  assert.match(last.toString(), /the log is cut here: \d+ more bytes were printed and not kept/);
  for (const [name, pid] of daemons()) assert.ok(peakBytes(pid) - idle.get(name)! < GROWTH_BYTES, name);
});

test.run();
