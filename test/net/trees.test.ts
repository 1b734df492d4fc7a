// limit: 180 s
import { existsSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Fleet } from './fleet.ts';
import { greeter, ok } from './mesh.ts';

const check = ['--check', 'sh test.sh'];
const mend = ['--', 'sed', '-i', 's/Helo/Hello/', 'greet.sh'];
const identity = {
  GIT_AUTHOR_NAME: 'T',
  GIT_AUTHOR_EMAIL: 't@example.invalid',
  GIT_COMMITTER_NAME: 'T',
  GIT_COMMITTER_EMAIL: 't@example.invalid',
};

test('real trees over a real mesh: work that is not committed goes out, comes back verified, and is never touched', async () => {
  const fleet = await Fleet.start({ members: { m1: {}, m2: {} } });
  try {
    const cwd = await greeter(join(fleet.home, 'a repository'));
    const git = (...args: string[]): Promise<string> => ok(['git', ...args], { cwd, env: identity });
    // Sent from a member that may fetch what it sent, and nothing else. The check needs what nobody has committed.
    writeFileSync(join(cwd, 'test.sh'), '[ "$(sh greet.sh mesh)" = "$(cat expected)" ]\n');
    writeFileSync(join(cwd, 'expected'), 'Hello, mesh!\n');
    const head = await git('rev-parse', 'HEAD');
    const status = await git('status', '--porcelain');
    const run = await fleet.node('m1', ['task', 'run', '--include-dirty', ...check, ...mend], { cwd });
    assert.is(run.code, 0, run.stderr);
    const id = run.stdout.trim();
    const task = await fleet.ended(id);
    assert.is(task.state, 'delivered', task.detail ?? '');
    assert.is(task.verified, true);
    assert.is(await git('for-each-ref', '--format=%(refname)'), 'refs/heads/main\n');

    const diff = await fleet.node('m1', ['task', 'diff', id], { cwd });
    assert.match(diff.stdout, /-echo "Helo[\s\S]*\+echo "Hello/);
    assert.not.match(diff.stdout, /expected/);
    const applied = await fleet.node('m1', ['task', 'apply', id], { cwd, env: identity });
    assert.is(applied.code, 0, applied.stderr);
    assert.match(applied.stdout, /^cherry-pick: .* is in, HEAD is now /);
    assert.is(await git('rev-parse', 'HEAD^'), head);
    assert.is(await git('status', '--porcelain'), status, 'what was not committed is as it was');
    assert.is(await ok(['sh', 'greet.sh', 'mesh'], { cwd }), 'Hello, mesh!\n');

    const shallow = join(fleet.home, 'shallow');
    await git('commit', '-qam', 'more');
    await ok(['git', 'clone', '-q', '--depth', '1', `file://${cwd}`, shallow]);
    const waited = ['task', 'run', '--wait', '--', 'sh', '-c', 'echo more >> greet.sh'];
    const second = await fleet.hub(waited, { cwd: shallow });
    assert.is(second.code, 0, second.stderr);
    const taken = await fleet.hub(['task', 'apply', second.stdout.trim()], { cwd: shallow, env: identity });
    assert.is(taken.code, 0, taken.stderr);
    assert.ok(existsSync(join(shallow, '.git/shallow')));
    assert.match(await ok(['git', 'log', '-1', '-p'], { cwd: shallow }), /\n\+more\n/);
  } finally {
    await fleet.close();
  }
});

test.run();
