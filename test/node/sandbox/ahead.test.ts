import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SandboxAhead } from '../../../node/sandbox/ahead.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import type { Sandbox } from '../../../node/sandbox/types.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun } from '../attempt/harness.ts';
import { Folder, processesWith, run, until, wish } from './support.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const real = createSandbox();
let starts = 0;
const counting: Sandbox = {
  limitKinds: real.limitKinds,
  start: (wanted, signal) => {
    starts += 1;
    return real.start(wanted, signal);
  },
};

/** A word that no other process has in its command line. */
const marker = (name: string): string => `ahead-${name}-${process.pid}`;

/** The run's own shell is up and waits at its gate. */
const waits = (word: string): Promise<void> =>
  until(`a sandbox for ${word}`, () => processesWith(word).length >= 3);

it('what is set up ahead runs nothing of the task before it is started, and then sees what came meanwhile', async () => {
  using folder = new Folder('ahead');
  const { signal } = new AbortController();
  const ahead = new SandboxAhead(counting, signal);
  const word = marker('gate');
  const wanted = wish(['sh', '-c', `cat later && echo ${word} >ran`], { workspace: folder.path });
  starts = 0;
  ahead.ahead(wanted);
  ahead.ahead(wanted);
  await waits(word);
  assert.not.ok(existsSync(join(folder.path, 'ran')));
  writeFileSync(join(folder.path, 'later'), 'came later\n');
  const started = ahead.start(structuredClone(wanted), signal);
  const [out, end] = await Promise.all([text(started.stdout), started.ended]);
  assert.is(out, 'came later\n');
  assert.is(end.exitCode, 0);
  assert.ok(existsSync(join(folder.path, 'ran')));
  assert.is(starts, 1);
});

it('another run is not let go by it, and close leaves no process', async () => {
  const { signal } = new AbortController();
  const ahead = new SandboxAhead(counting, signal);
  const word = marker('unused');
  ahead.ahead(wish(['sleep', '60', word]));
  await waits(word);
  const other = await run(ahead, ['echo', 'other']);
  assert.is(other.out, 'other\n');
  await ahead.close();
  assert.equal(processesWith(word), []);
});

it('closed or aborted before bwrap has begun, nothing is left either', async () => {
  for (const how of ['close', 'abort'] as const) {
    const stop = new AbortController();
    const ahead = new SandboxAhead(counting, stop.signal);
    const word = marker(how);
    ahead.ahead(wish(['sleep', '60', word]));
    if (how === 'abort') stop.abort(new Error('stopped'));
    await ahead.close();
    assert.equal(processesWith(word), []);
    ahead.ahead(wish(['sleep', '60', word]));
    if (how === 'abort') assert.equal(processesWith(word), [], 'nothing is set up after the end');
    await ahead.close();
  }
});

it('an attempt that is stopped ends a run that waits', async () => {
  const stop = new AbortController();
  const ahead = new SandboxAhead(counting, stop.signal);
  const wanted = wish(['sleep', '60', marker('stopped')]);
  ahead.ahead(wanted);
  await waits(marker('stopped'));
  stop.abort(new Error('stopped'));
  assert.is((await ahead.start(wanted, stop.signal).ended).killedBy, 'stopped');
});

it('the clock of a run begins when it is let go', async () => {
  const { signal } = new AbortController();
  const ahead = new SandboxAhead(counting, signal);
  const word = marker('clock');
  const wanted = wish(['sh', '-c', `sleep 0.05; echo ${word}`], { limits: { wallMs: 500 } });
  const began = performance.now();
  ahead.ahead(wanted);
  await waits(word);
  await until('more than its time passes', () => performance.now() - began > 700);
  const started = ahead.start(wanted, signal);
  const [out, end] = await Promise.all([text(started.stdout), started.ended]);
  assert.is(end.killedBy, null);
  assert.is(out, `${word}\n`);
  assert.ok(end.wallMs < 500, `${end.wallMs} ms`);
  const endless = wish(['sh', '-c', `sleep 60; echo ${word}`], { limits: { wallMs: 100 } });
  ahead.ahead(endless);
  assert.is((await ahead.start(endless, signal).ended).killedBy, 'timeout');
});

test.run();
