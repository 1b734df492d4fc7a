import { existsSync } from 'node:fs';
import { chmod, mkdir, readdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { AttemptResult } from '../../../protocol/session.ts';
import type { CommandSpecInput } from '../../../protocol/task.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, Member, World } from './harness.ts';

/**
 * What the two hostile suites share: an owner with a git configuration that would give everything away, and the
 * proof after every case: nothing of the task's
 * runs outside its sandbox (a file on the host would show it), and the member serves the next attempt.
 */
dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
/** The world of one hostile suite. */
export const world = await World.make();
/** Made by anything of a task's that runs on the host: the path means nothing inside a sandbox. */
export const marker = join(world.folder, 'ran-on-the-host');
export const canary = join(world.folder, 'canary');
await writeFile(canary, 'canary-of-the-host\n');

// The owner's own git has filters and a monitor of its own, which a hostile .gitattributes could call.
const home = join(world.folder, 'home');
await mkdir(home);
await writeFile(
  join(home, '.gitconfig'),
  `[filter "owner"]\n\tclean = touch ${marker}; cat\n\tsmudge = touch ${marker}; cat\n\trequired = true\n[core]\n\tfsmonitor = touch ${marker}\n\thooksPath = ${home}/hooks\n[diff "owner"]\n\tcommand = touch ${marker}\n[diff]\n\texternal = touch ${marker}\n`,
);
await mkdir(join(home, 'hooks'));
for (const hook of ['pre-commit', 'post-checkout', 'post-index-change', 'reference-transaction']) {
  await writeFile(join(home, 'hooks', hook), `#!/bin/sh\ntouch ${marker}\n`);
  await chmod(join(home, 'hooks', hook), 0o755);
}
await mkdir(join(home, 'bin'));
// And nobody here calls a git of the host at all: the first in its path is this one.
await writeFile(join(home, 'bin', 'git'), `#!/bin/sh\ntouch ${marker}\n`);
await chmod(join(home, 'bin', 'git'), 0o755);
process.env.PATH = `${join(home, 'bin')}:${process.env.PATH}`;
process.env.HOME = home;
process.env.GIT_CONFIG_GLOBAL = join(home, '.gitconfig');

export const repository = world.repository();
export const base = await repository.commit({
  'a.txt': 'a\n',
  'dir/b.txt': 'b\n',
  'test.sh': 'test -e a.txt\n',
});
const bundles = [await world.bundle(repository, base)];
export const member = await Member.open(join(world.folder, 'member'), world.founder);
test.after(async () => {
  await member.runner.close();
  await world.remove();
});

/** One attempt of a shell script on the shared repository. */
export async function attempt(
  script: string,
  spec: Partial<CommandSpecInput> = {},
): Promise<{ result: AttemptResult; log: string; task: string }> {
  const full = { kind: 'command' as const, argv: ['sh', '-c', script], ...spec };
  const assignment = await world.assignment(full, { repository, base, bundles });
  const { result, log } = await member.run(assignment);
  await member.runner.close();
  return { result, log, task: assignment.task };
}

/** Names that the returned commit changes, read by a git that the test trusts, from the bundle alone. */
export async function changedBy(result: AttemptResult, task: string): Promise<string[]> {
  const path = join(world.folder, `${task}.result`);
  await writeFile(path, await bytesOf(member.blobs, result.bundle!));
  repository.git(
    '-c',
    'transfer.fsckObjects=true',
    'fetch',
    '-q',
    path,
    `refs/heads/mesh/${task}:refs/heads/got/${task}`,
  );
  return repository
    .git('diff', '--name-only', '-z', base, `got/${task}`)
    .split('\0')
    .filter((name) => name !== '');
}

/** A hostile case: after it, nothing ran on the host and the next attempt is served. */
export function hostile(name: string, body: () => Promise<void>): void {
  const it = canRun === null ? test : test.skip;
  it(`${name} (promise 13)`, async () => {
    await body();
    assert.not(existsSync(marker), 'something ran on the host');
    assert.is(await readFile(canary, 'utf8'), 'canary-of-the-host\n');
    const next = await attempt('echo fine >fine');
    assert.is(next.result.outcome, 'succeeded', `the next attempt: ${next.result.detail}`);
    assert.equal(await changedBy(next.result, next.task), ['fine']);
    const left = (await readdir(join(member.folder, 'attempts'), { recursive: true })).filter(
      (path) => !/^[a-z2-7]{12}\.1\.1(\/result\.json)?$/.test(path),
    );
    assert.equal(left, []);
  });
}
