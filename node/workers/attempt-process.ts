/** Run as a process of its own by `supervised.ts`: does the work of attempts, one at a time, as its node asks. */

import { subscribe } from 'node:diagnostics_channel';
import { writeFileSync } from 'node:fs';
import { flushCompileCache } from 'node:module';
import { Socket } from 'node:net';
import { SuperfleetError } from '../../protocol/errors.ts';
import { type AttemptParts, type Performed, performAttempt } from '../attempt/perform.ts';
import { RepositoryCache } from '../git/repository-cache.ts';
import { createSandbox, type SandboxOptions } from '../sandbox/bubblewrap.ts';
import { SuspendableSandbox } from '../sandbox/suspendable.ts';
import { TIMING_CHANNEL } from '../timing.ts';
import { Calls } from './calls.ts';
import { FrameReader, frameOf } from './frames.ts';
import type { WorkerOrder } from './order.ts';
import { RemoteBlobs, RemoteEnvironments, RemoteTurns, remoteHooks } from './remote.ts';

/** After stdin, stdout and stderr. */
const CHANNEL = 3;

/** What was compiled is kept when the start is over, and whoever waits for the first attempt has begun it. */
const KEEP_COMPILED_MS = 1_000;

/** Of -1000 to 1000; anything else of the machine has 0 where nobody says otherwise. */
const OUT_OF_MEMORY_SCORE = 300;

const channel = new Socket({ fd: CHANNEL });
const calls = new Calls((message) => void channel.write(frameOf(message)), { ask: answered, tell: heard });
let sandbox: { of: string; tasks: SuspendableSandbox } | null = null;
let environments: RemoteEnvironments | null = null;
let suspended = false;
let timed = false;

/** Set up once, and anew only where the owner changed something. */
function sandboxOf(options: SandboxOptions): SuspendableSandbox {
  const of = JSON.stringify(options);
  if (sandbox?.of !== of) sandbox = { of, tasks: new SuspendableSandbox(createSandbox(options)) };
  if (suspended) sandbox.tasks.suspend();
  return sandbox.tasks;
}

async function perform(order: WorkerOrder, signal: AbortSignal): Promise<Performed> {
  const { cache, goals } = order;
  if (order.timed && !timed) {
    timed = true;
    subscribe(TIMING_CHANNEL, (said) => {
      const { task, step } = said as { task: string; step: string };
      calls.tell('mark', task, step);
    });
  }
  environments = order.environments === null ? null : new RemoteEnvironments(calls, order.environments.hosts);
  const parts: AttemptParts = {
    sandbox: sandboxOf(order.sandbox),
    blobs: new RemoteBlobs(calls),
    cache: new RepositoryCache(cache.folder, cache.bounds, new RemoteTurns(calls)),
    // Half of the program, and most attempts need none of it.
    worker: goals === null ? null : await lazyGoals(goals),
    environments,
    time: Date.now,
  };
  const { assignment, work, member } = order;
  return performAttempt({ assignment, work, member }, parts, remoteHooks(calls), signal);
}

async function lazyGoals(goals: NonNullable<WorkerOrder['goals']>) {
  const { remoteGoals } = await import('./remote-goals.ts');
  return remoteGoals(calls, goals);
}

function answered(of: string, args: unknown[], signal: AbortSignal): Promise<unknown> {
  switch (of) {
    case 'attempt':
      return perform(args[0] as WorkerOrder, signal);
    case 'ping':
      return Promise.resolve();
    case 'prepareSays':
    case 'prepareWrites':
      return environments?.answer(of, args) ?? Promise.resolve();
    default:
      throw new SuperfleetError('SF_FRAME', `a node asked ${of}`);
  }
}

function heard(of: string, args: unknown[]): void {
  switch (of) {
    case 'suspend':
      suspended = true;
      sandbox?.tasks.suspend();
      return;
    case 'resume':
      suspended = false;
      sandbox?.tasks.resume();
      return;
    case 'prepareReached':
      environments?.hear(args);
      return;
    default:
      throw new SuperfleetError('SF_FRAME', `a node told ${of}`);
  }
}

try {
  // Where the machine has no memory left, the kernel is to end this, or a sandbox of it, and not the node.
  writeFileSync('/proc/self/oom_score_adj', String(OUT_OF_MEMORY_SCORE));
} catch {
  // No such file, or somebody has set a higher one.
}
// The node is gone, however it ended, or wants this process no more: sandboxes end with it.
const alone = (): void => void process.kill(process.pid, 'SIGKILL');
channel.on('error', alone);
channel.on('close', alone);
// A terminal and a supervisor signal the node's whole group; the node, which stops in order, ends this process.
for (const signal of ['SIGINT', 'SIGTERM', 'SIGHUP'] as const) process.on(signal, () => {});
// It is ended from outside, and never comes to the end at which Node would keep what it has compiled.
setTimeout(() => flushCompileCache(), KEEP_COMPILED_MS).unref();
const reader = new FrameReader();
channel.on('data', (chunk) => {
  for (const message of reader.push(chunk)) calls.receive(message);
});
