// limit: 120 s
/** Attempts in worker processes: what becomes of the node, and of other attempts, when one of them dies. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { pathToFileURL } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { lives, markOf } from '../../../node/process-mark.ts';
import { parseReceipt } from '../../../protocol/receipt.ts';
import type { Assignment } from '../../../protocol/session.ts';
import { openStatement, parseSigned } from '../../../protocol/statement.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, executorKey, World } from '../attempt/harness.ts';
import { openNode, watched } from './harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const world = await World.make();
test.after(() => world.remove());
const unreached = (): void => assert.unreachable();
const never = new AbortController().signal;

/** Where the command of an assignment without a repository runs. */
const workspaceOf = (node: string, { task }: Assignment): string =>
  join(world.folder, node, 'attempts', `${task}.1.1/work/workspace`);

/** Processes whose command line names this. */
const named = (marker: string): string[] =>
  readdirSync('/proc').filter((pid) => {
    if (!/^\d+$/.test(pid)) return false;
    try {
      return readFileSync(`/proc/${pid}/cmdline`, 'utf8').includes(marker);
    } catch {
      return false;
    }
  });
async function gone(look: () => boolean): Promise<void> {
  while (!look()) await delay(10);
}

const sleeps = (marker: string): Promise<Assignment> =>
  world.assignment({ kind: 'command', argv: ['sh', '-c', `echo ready; exec sleep 600 # ${marker}`] }, null);

it('an attempt is done by a worker as it is by the node, and the next by the same worker', async () => {
  const node = await openNode(join(world.folder, 'plain'), world.founder);
  const repository = world.repository('plain-repo');
  const base = await repository.commit({ a: '1\n' });
  const argv = ['sh', '-c', 'echo made > made; head -c 2000000 /dev/zero > large; echo $SECRET; echo done'];
  const spec = { kind: 'command' as const, argv, checks: ['test -f made'], artifacts: ['large'] };
  const assignment = await world.assignment(spec, { repository, base }, { secrets: { SECRET: 'hush hush' } });
  const { hooks, seen, output } = watched(node);
  const result = await node.runner.run(assignment, hooks, never);
  assert.equal([result.outcome, result.detail], ['succeeded', null]);
  assert.is(seen.started, 1);
  assert.equal([...seen.phases], ['fetch', 'prepare', 'run', 'check', 'converge']);
  assert.ok(output().includes('***\ndone') && !output().includes('hush'), output());
  assert.is((await bytesOf(node.blobs, result.artifacts[0]!)).length, 2_000_000);
  assert.is((await bytesOf(node.blobs, result.log!)).toString('utf8'), output());
  const receipt = parseReceipt(openStatement(parseSigned(result.envelope!), executorKey.publicKey));
  assert.equal(
    [receipt.executor, receipt.commit, receipt.checks.length],
    [executorKey.peer, result.commit, 1],
  );
  const before = node.workers.pids;
  assert.is(before.length, 1);
  const score = readFileSync(`/proc/${before[0]}/oom_score_adj`, 'utf8').trim();
  assert.is(score, '300', 'where memory is out, the kernel ends it before the node');
  const again = await world.assignment({ kind: 'command', argv: ['false'] }, { repository, base });
  const failed = await node.runner.run(again, watched(node).hooks, never);
  assert.equal([failed.outcome, failed.reason, failed.exitCode], ['failed', 'task', 1]);
  assert.equal(node.workers.pids, before);
  for (const { task, attempt, epoch } of [result, failed]) await node.runner.forget({ task, attempt, epoch });
  await node.runner.close();
  assert.equal(await node.blobs.list(), [], 'nothing is held for what is settled');
  assert.equal(node.warnings, []);
});

it('a worker that is killed is one failed attempt, and another of the same node goes on', async () => {
  const node = await openNode(join(world.folder, 'killed-worker'), world.founder);
  const first = watched(node);
  const second = watched(node);
  const marker = `killed-${process.pid}`;
  const lost = node.runner.run(await sleeps(marker), first.hooks, never);
  await first.until('\nready\n');
  const [victim] = node.workers.pids;
  const argv = ['sh', '-c', 'echo ready; while [ ! -e go ]; do sleep 0.05; done; echo went on'];
  const other = await world.assignment({ kind: 'command', argv }, null);
  const kept = node.runner.run(other, second.hooks, never);
  await second.until('\nready\n');
  process.kill(victim!, 'SIGKILL');
  const result = await lost;
  assert.equal([result.outcome, result.fault, result.reason], ['failed', 'machine', 'lost']);
  assert.match(result.detail!, /spare-1: the worker of this attempt was ended by SIGKILL/);
  assert.equal([result.envelope, result.log], [null, null]);
  await gone(() => named(marker).length === 0);
  writeFileSync(join(workspaceOf('killed-worker', other), 'go'), '');
  assert.is((await kept).outcome, 'succeeded');
  assert.match(node.warnings[0]!, 'an attempt failed with its worker');
  // The next work has a worker again.
  const next = await world.assignment({ kind: 'command', argv: ['true'] }, null);
  assert.is((await node.runner.run(next, watched(node).hooks, never)).outcome, 'succeeded');
  await node.runner.close();
  assert.equal(node.workers.count, { idle: 0, busy: 0 });
});

it('a worker whose main loop stands still is ended, and its attempt failed', async () => {
  const limits = { pingMs: 250, silentMax: 16 };
  const node = await openNode(join(world.folder, 'frozen'), world.founder, { limits });
  const { hooks, until } = watched(node);
  const marker = `frozen-${process.pid}`;
  const running = node.runner.run(await sleeps(marker), hooks, never);
  await until('\nready\n');
  process.kill(node.workers.pids[0]!, 'SIGSTOP');
  const result = await running;
  assert.equal([result.outcome, result.fault], ['failed', 'machine']);
  assert.match(result.detail!, 'the worker of this attempt was ended, for it did not answer for 4 s');
  await gone(() => named(marker).length === 0);
  await node.runner.close();
});

it('one that talks nonsense is ended, and what it prints is in the log', async () => {
  const program = pathToFileURL(join(import.meta.dirname, 'garbage-worker.mjs'));
  const node = await openNode(join(world.folder, 'nonsense'), world.founder, { program });
  const assignment = await world.assignment({ kind: 'command', argv: ['true'] }, null);
  const result = await node.runner.run(assignment, watched(node).hooks, never);
  assert.equal([result.outcome, result.fault], ['failed', 'machine']);
  assert.match(result.detail!, 'for it talked nonsense');
  assert.ok(node.warnings.includes('a worker says: I am not well'), node.warnings.join());
  await node.runner.close();
});

it('one that is stopped leaves nothing, also where its worker stood still, which is used again', async () => {
  const node = await openNode(join(world.folder, 'stopped'), world.founder);
  for (const frozen of [false, true]) {
    const marker = `stopped-${frozen}-${process.pid}`;
    const stop = new AbortController();
    const { hooks, until } = watched(node);
    const running = node.runner.run(await sleeps(marker), hooks, stop.signal);
    await until('\nready\n');
    const before = node.workers.pids;
    if (frozen) process.kill(before[0]!, 'SIGSTOP');
    // It may end while the others are being looked for.
    const ended = running.then(unreached, (error: Error) => error.message);
    stop.abort(new Error('the owner is back'));
    // Whether its worker hears or not: the node itself ends what it runs.
    await gone(() => named(marker).length === 0);
    assert.is(await ended, 'the owner is back');
    assert.equal(named(marker), [], 'nothing of it is left');
    assert.equal(node.workers.pids, before);
  }
  assert.equal(readdirSync(join(world.folder, 'stopped/attempts')), []);
  await node.runner.close();
});

it('what is suspended gets no processor, what is begun meanwhile waits, and both go on', async () => {
  const node = await openNode(join(world.folder, 'suspended'), world.founder);
  const counts = ['sh', '-c', 'i=0; while [ $i -lt 40 ]; do i=$((i+1)); echo $i; sleep 0.02; done'];
  const first = watched(node);
  const running = node.runner.run(
    await world.assignment({ kind: 'command', argv: counts }, null),
    first.hooks,
    never,
  );
  await first.until('\n1\n');
  node.runner.suspend();
  const second = watched(node);
  const begun = node.runner.run(
    await world.assignment({ kind: 'command', argv: ['echo', 'late'] }, null),
    second.hooks,
    never,
  );
  await second.until('the command:');
  // Whatever was under way has come by now; from here on nothing does.
  let before = '';
  while (before !== first.output()) {
    before = first.output();
    await delay(300);
  }
  assert.not.ok(before.includes('\n40\n'));
  assert.not.ok(second.output().includes('\nlate\n'));
  node.runner.resume();
  assert.equal(
    (await Promise.all([running, begun])).map(({ outcome }) => outcome),
    ['succeeded', 'succeeded'],
  );
  assert.ok(first.output().includes('\n40\n') && second.output().includes('\nlate\n'));
  await node.runner.close();
});

it('workers come with work and go when they are idle', async () => {
  const node = await openNode(join(world.folder, 'idle'), world.founder, { idleMs: 200, idleMax: () => 1 });
  assert.equal(node.workers.count, { idle: 0, busy: 0 });
  const waits = ['sh', '-c', 'echo ready; while [ ! -e go ]; do sleep 0.05; done'];
  const both = await Promise.all(
    [0, 1].map(async () => {
      const { hooks, until } = watched(node);
      const assignment = await world.assignment({ kind: 'command', argv: waits }, null);
      const run = node.runner.run(assignment, hooks, never);
      await until('\nready\n');
      return { run, folder: workspaceOf('idle', assignment) };
    }),
  );
  assert.equal(node.workers.count, { idle: 0, busy: 2 });
  const marks = node.workers.pids.map(markOf);
  for (const { folder } of both) writeFileSync(join(folder, 'go'), '');
  await Promise.all(both.map(({ run }) => run));
  assert.ok(node.workers.count.idle <= 1);
  await gone(() => !marks.some(lives) && node.workers.pids.length === 0);
  assert.equal(node.warnings, []);
  await node.runner.close();
});

it('a node that is killed leaves no worker and no sandbox, also where the worker stands still', async () => {
  for (const frozen of [false, true]) {
    const marker = `orphan-${frozen}-${process.pid}`;
    const assignment = JSON.stringify(await sleeps(marker));
    const program = join(import.meta.dirname, 'node-process.ts');
    const node = spawn(process.execPath, [program, world.folder, assignment], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    const [said] = (await once(node.stdout, 'data')) as [Buffer];
    const worker = markOf(Number(said.toString()));
    assert.ok(lives(worker));
    if (frozen) process.kill(worker.pid, 'SIGSTOP');
    node.kill('SIGKILL');
    await once(node, 'exit');
    await gone(() => !lives(worker) && named(marker).length === 0);
  }
});

test.run();
