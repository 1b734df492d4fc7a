/** Runs that are suspended and go on: the owner of the machine came back, and left again. */
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { processStat, processTree } from '../../../node/sandbox/limits/tree.ts';
import { nicenessOf } from '../../../node/sandbox/niceness.ts';
import { SuspendableSandbox } from '../../../node/sandbox/suspendable.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun } from '../attempt/harness.ts';
import { processesWith, run, start } from './support.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;
const plain = createSandbox();

/** States of the processes of a task, whose command line holds `marker`, and of what they started. */
const statesOf = (marker: string): string[] => [
  ...new Set(
    processesWith(marker)
      .filter((pid) => !processTreeHasBwrap(pid))
      .flatMap((pid) => processTree(pid))
      .map((pid) => processStat(pid)?.state ?? 'gone'),
  ),
];
/** bwrap's own processes carry the argv of the task, too; the outermost is no part of what is suspended. */
const processTreeHasBwrap = (pid: number): boolean => processStat(pid)?.parent === process.pid;

it('nothing of a suspended tree is given the processor, and it goes on where it was', async () => {
  const sandbox = new SuspendableSandbox(plain);
  const marker = `suspend-${process.pid}`;
  const script = `: ${marker}; (while :; do :; done) & read line; echo "got $line"; kill $!`;
  const task = start(sandbox, ['sh', '-c', `echo begun; ${script}`], { stdin: 'pipe' });
  const [begun] = (await once(task.stdout, 'data')) as [Buffer];
  assert.is(begun.toString(), 'begun\n');
  sandbox.suspend();
  const all = processesWith(marker).filter((pid) => !processTreeHasBwrap(pid));
  assert.ok(all.length >= 2, 'the shell and what it left in the background are there');
  // A stop that was sent is taken by the time the kernel gives the process the processor again.
  while (statesOf(marker).some((state) => state !== 'T')) await delay(10);
  assert.equal(statesOf(marker), ['T']);
  const rest = text(task.stdout);
  task.stdin!.end('one\n');
  sandbox.resume();
  assert.is(await rest, 'got one\n');
  assert.is((await task.ended).exitCode, 0);
});

it('the time in which a run is suspended is not its own, and what is begun meanwhile waits', async () => {
  const sandbox = new SuspendableSandbox(plain);
  const task = start(sandbox, ['sh', '-c', 'read line; echo "got $line"'], {
    stdin: 'pipe',
    limits: { wallMs: 3_000 },
  });
  sandbox.suspend();
  const later = start(sandbox, ['echo', 'later'], { limits: { wallMs: 3_000 } });
  let out = '';
  later.stdout.on('data', (bytes: Buffer) => {
    out += bytes.toString();
  });
  assert.is((await run(plain, ['sleep', '3.5'])).exitCode, 0);
  assert.is(out, '');
  const said = text(task.stdout);
  task.stdin!.end('two\n');
  sandbox.resume();
  assert.is(await said, 'got two\n');
  assert.is((await task.ended).killedBy, null);
  assert.is((await later.ended).exitCode, 0);
  assert.is(out, 'later\n');
});

it('a suspended run is ended as any, and leaves nothing', async () => {
  const sandbox = new SuspendableSandbox(plain);
  const marker = `ended-${process.pid}`;
  const task = start(sandbox, ['sh', '-c', `echo begun; : ${marker}; sleep 600`]);
  await once(task.stdout, 'data');
  sandbox.suspend();
  task.kill();
  assert.is((await task.ended).killedBy, 'stopped');
  assert.equal(processesWith(marker), []);
  sandbox.resume();
});

it('what runs is as nice as the weight that the owner gives it says', async () => {
  assert.equal([100, 80, 50, 10, 1].map(nicenessOf), [0, 1, 3, 10, 19]);
  const before = Number((await run(plain, ['nice'])).out);
  const { out } = await run(createSandbox({ cpuWeight: 10 }), ['nice']);
  assert.is(Number(out), Math.max(before, 10));
});

test.run();
