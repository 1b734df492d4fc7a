// limit: 120 s
import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { privilegeFault, resolveAccount } from '../../node/privileges.ts';
import { descendants, Fleet, runs, wake } from './fleet.ts';
import { isRoot } from './mesh.ts';

const NAME =
  'from a program folder that only root can read: everything works, and nothing of it runs as root (promise 14)';
const ROOT = resolve(import.meta.dirname, '../..');
const PROGRAM = ['node_modules', 'protocol', 'ledger', 'node', 'hub', 'scripts', 'package.json'];

/** The program as root installs it for itself. Files are linked, not copied, where the disk is the same. */
function privateProgram(): string {
  const folder = mkdtempSync(join(tmpdir(), 'sf-private-'));
  chmodSync(folder, 0o700);
  const program = join(folder, 'superfleet');
  mkdirSync(program);
  for (const name of PROGRAM) {
    const from = join(ROOT, name);
    const linked = spawnSync('cp', ['-al', from, program]);
    if (linked.status === 0) continue;
    rmSync(join(program, name), { recursive: true, force: true });
    const copied = spawnSync('cp', ['-a', from, program]);
    assert.is(copied.status, 0, String(copied.stderr));
  }
  return program;
}

/** What of root is left in a process, in any thread of it. */
function faults(pid: number): string[] {
  const account = resolveAccount(null);
  const folder = `/proc/${pid}/task`;
  let threads: string[] = [];
  try {
    threads = readdirSync(folder);
  } catch {
    // It ended.
  }
  return threads.flatMap((thread) => {
    try {
      const status = readFileSync(join(folder, thread, 'status'), 'latin1');
      const fault = privilegeFault(status, account);
      const name = /^Name:\s+(.*)$/m.exec(status)?.[1];
      return fault === null ? [] : [`${name} ${pid}/${thread}: ${fault}`];
    } catch {
      return []; // It ended.
    }
  });
}

if (!isRoot) {
  console.log('skipped: privileges.test.ts looks at what root gives up, and needs to be root');
  test.skip(NAME);
} else {
  test(NAME, async () => {
    const program = privateProgram();
    try {
      const fleet = await Fleet.start({
        program,
        hub: { slots: 1 },
        members: { m1: { slots: 2 }, m2: { slots: 2 } },
      });
      try {
        await walk(fleet);
      } finally {
        await fleet.close();
      }
    } finally {
      rmSync(resolve(program, '..'), { recursive: true, force: true });
    }
  });
}

async function walk(fleet: Fleet): Promise<void> {
  const mark = 'mark-unprivileged';
  const daemons = [fleet.hubDaemon!, ...fleet.members.values()];
  const repository = await fleet.repository();
  const tasks = await Promise.all(
    ['hub', 'm1', 'm2'].map((on) =>
      fleet.submit(['sh', '-c', `id -u; sleep 600; echo ${mark} > made`], {
        on,
        repository,
        checks: ['grep -q mark made'],
        artifacts: ['made'],
      }),
    ),
  );
  for (const task of tasks) await fleet.about(task, 'attempt.started');
  await runs(mark, tasks.length);
  const all = daemons.flatMap(({ pid }) => [pid, ...descendants(pid)]);
  assert.ok(all.length >= daemons.length + tasks.length, `${all.length} processes are looked at`);
  assert.equal(all.flatMap(faults), [], 'no thread of founder, members and tasks has anything of root');
  await wake(mark);
  for (const task of tasks) {
    const ended = await fleet.ended(task);
    assert.is(ended.state, 'delivered', `${ended.detail}`);
    assert.is(ended.verified, true, `${ended.detail}`);
    const { stdout } = await fleet.hub(['task', 'logs', task]);
    assert.match(stdout, new RegExp(`^${resolveAccount(null).uid}$`, 'm'), 'what a task sees of itself');
  }
  // What is loaded late would fail now: every kind of work is done once.
  for (const words of [
    ['status'],
    ['task', 'list'],
    ['task', 'logs', '-f', tasks[0]!],
    ['task', 'why', tasks[0]!],
    ['receipt', 'show', tasks[0]!],
    ['ledger', 'verify'],
    ['ledger', 'export'],
    ['secret', 'set', 'TOKEN'],
    ['secret', 'remove', 'TOKEN'],
    ['node', 'drain', 'm1'],
    ['node', 'eligible', 'm1'],
    ['pause'],
    ['resume'],
  ]) {
    const done = await fleet.hub(words, { input: 'value' });
    assert.is(done.code, 0, `${words.join(' ')}: ${done.stderr}`);
  }
  assert.is((await fleet.node('m1', ['pause'])).code, 0);
  assert.is((await fleet.node('m1', ['resume'])).code, 0);
  await fleet.daemon('m1').end('SIGKILL');
  fleet.members.set('m1', await fleet.startMember('m1'));
  assert.is((await fleet.node('m1', ['leave'])).code, 0, fleet.daemon('m1').log);
  assert.is((await fleet.hub(['node', 'revoke', 'm2'])).code, 0);
  const last = await fleet.submit(['true']);
  assert.is((await fleet.ended(last)).executor!.name, 'hub');
  assert.is((await fleet.hub(['stop'])).code, 0);
  for (const { log } of daemons) assert.not.match(log, /EACCES|ERR_MODULE_NOT_FOUND|permission denied/i);
}

test.run();
