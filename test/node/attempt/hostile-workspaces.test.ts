import { execFileSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { bytesOf } from './harness.ts';
import { attempt, canary, changedBy, hostile, marker, member, repository, world } from './hostile.ts';

/** What a task may leave in its workspace to have the host run, read or write something. */
test("the bait works: host git with the owner's configuration does run what these suites look for", async () => {
  const status = { cwd: repository.path, env: { HOME: process.env.HOME ?? '', PATH: '/usr/bin:/bin' } };
  execFileSync('/usr/bin/git', ['status', '--short'], status);
  assert.ok(existsSync(marker));
  await rm(marker);
});

hostile('hooks, config, info and refs in .git cannot be written', async () => {
  const writes = [
    'printf "#!/bin/sh\\ntouch MARKER\\n" >.git/hooks/pre-commit',
    'mkdir -p .git/hooks',
    'git config core.fsmonitor "touch MARKER"',
    'git config filter.x.clean "touch MARKER"',
    'echo "[core]" >>.git/config',
    'echo "* filter=x" >.git/info/attributes',
    'echo /tmp/evil >.git/commondir',
    'echo /tmp/evil >.git/objects/info/alternates',
    'echo x >.git/HEAD',
    'git update-ref refs/heads/main HEAD',
    'git commit --allow-empty -m x',
    'git replace HEAD HEAD~0',
    'touch /cache/pack/x',
    'rm -f /cache/pack/*',
    'chmod u+w /cache/pack/*',
  ].map((line) => line.replaceAll('MARKER', marker));
  const { result, log, task } = await attempt(
    `${writes.map((line) => `(${line}) && echo WROTE: '${line.replaceAll("'", '')}'`).join('\n')}\necho x >new; exit 0`,
  );
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.equal(
    log.split('\n').filter((line) => line.startsWith('WROTE')),
    [],
  );
  assert.equal(await changedBy(result, task), ['new']);
});

hostile('.git cannot be moved, deleted, replaced or mounted over', async () => {
  const script = `
    for act in 'rm -rf .git' 'mv .git x' 'rmdir .git' 'ln -sfn /tmp .git' 'mount -t tmpfs x .git' 'umount .git'; do
      $act 2>/dev/null; [ -f .git/HEAD ] || echo GONE: $act
    done
    mkdir -p /tmp/evil && git init -q /tmp/evil && git -C /tmp/evil config core.fsmonitor 'touch ${marker}'
    mv -T /tmp/evil/.git .git 2>/dev/null && echo REPLACED
    git -C . rev-parse --git-dir; echo x >new`;
  const { result, log, task } = await attempt(script);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.not.match(log, /^(GONE|REPLACED)/m);
  assert.equal(await changedBy(result, task), ['new']);
});

hostile(
  'a .gitattributes that names the filters and diff drivers of the owner, or of nobody, runs none',
  async () => {
    const attributes = '* filter=owner diff=owner merge=owner\n*.txt filter=x ident\n';
    const { result, task } = await attempt(
      `printf '${attributes.replaceAll('\n', '\\n')}' >.gitattributes; echo x >c.txt`,
      {
        checks: ['git status --short; git diff HEAD; true'],
      },
    );
    assert.is(result.outcome, 'succeeded', result.detail ?? '');
    assert.equal(await changedBy(result, task), ['.gitattributes', 'c.txt']);
    // The base itself may bring them too.
    const own = world.repository('attributes');
    const at = await own.commit({
      '.gitattributes': '* filter=owner diff=owner\n',
      'x.txt': 'x\n',
      '.gitmodules': '',
    });
    const assignment = await world.assignment(
      { kind: 'command', argv: ['sh', '-c', 'echo y >x.txt'] },
      { repository: own, base: at },
    );
    const run = await member.run(assignment);
    assert.is(run.result.outcome, 'succeeded', run.result.detail ?? '');
  },
);

hostile('an encoding that git cannot do fails the task and names a file', async () => {
  const { result } = await attempt(
    "echo '*.txt working-tree-encoding=no-such-encoding' >.gitattributes; printf '\\377' >bad.txt",
  );
  assert.is(result.reason, 'task');
  assert.match(result.detail ?? '', /failed to encode '\w+\.txt'/);
});

const nested: [string, string, RegExp][] = [
  [
    'a nested repository with a commit',
    'git init -q sub && cd sub && git -c user.name=x -c user.email=x@x commit -q --allow-empty -m x',
    /sub/,
  ],
  ['a nested repository without a commit', 'git init -q sub && echo x >sub/x', /sub/],
  [
    'a .git file that points at our directory',
    'mkdir sub; echo "gitdir: /git" >sub/.git; echo x >sub/x',
    /sub/,
  ],
  [
    'a nested repository with a monitor',
    `git init -q sub && cd sub && git -c user.name=x -c user.email=x@x commit -q --allow-empty -m x && git config core.fsmonitor "touch ${marker}" && git config core.worktree /`,
    /sub/,
  ],
  [
    'a submodule',
    'git init -q sub && git -C sub -c user.name=x -c user.email=x@x commit -q --allow-empty -m x && printf "[submodule \\"sub\\"]\\n\\tpath = sub\\n\\turl = -u./x\\n" >.gitmodules',
    /sub/,
  ],
  ['.GIT', 'mkdir .GIT; echo x >.GIT/config', /\.GIT/],
  ['git~1', 'mkdir git~1; echo x >git~1/config', /git~1/],
  [
    '.git with a character no one sees',
    'd=$(printf ".g\\342\\200\\214it"); mkdir "$d"; echo x >"$d/config"',
    /\.g.*it/,
  ],
];
for (const [name, script, path] of nested) {
  hostile(`${name} fails the task and names the path`, async () => {
    const { result } = await attempt(`${script}; exit 0`);
    assert.is(result.reason, 'task', `${result.outcome} ${result.detail}`);
    assert.is(result.fault, 'task');
    assert.match(result.detail ?? '', path);
    assert.is(result.bundle, null);
  });
}

hostile('what lies beside a broken .git is taken as files', async () => {
  const { result, task } = await attempt('mkdir sub; echo "gitdir: /nowhere" >sub/.git; echo x >sub/x');
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.equal(await changedBy(result, task), ['sub/x']);
});

hostile('links out of the workspace, to themselves and in place of folders come back as links', async () => {
  const { result, task } = await attempt(
    `ln -s ${canary} out; ln -s /etc/passwd passwd; ln -s loop loop; ln -s .. up; rm -r dir; ln -s ${world.folder} dir; ln -s /proc/self/root root`,
    { checks: [`! cat out && ! cat dir/canary && ! grep -q . root${canary}`] },
  );
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.equal(await changedBy(result, task), ['dir', 'dir/b.txt', 'loop', 'out', 'passwd', 'root', 'up']);
  assert.is(repository.git('cat-file', 'blob', `got/${task}:out`), canary);
});

hostile('a base whose links point out of the workspace writes nothing through them', async () => {
  const own = world.repository('links');
  execFileSync('ln', ['-s', world.folder, join(own.path, 'out')]);
  const at = await own.commit({ x: 'x' });
  const assignment = await world.assignment(
    { kind: 'command', argv: ['sh', '-c', 'echo evil >out/canary; rm out; mkdir out; echo y >out/canary'] },
    { repository: own, base: at },
  );
  const { result } = await member.run(assignment);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
});

const badArtifacts: [string, string, string][] = [
  ['a FIFO', 'mkfifo out', 'out'],
  ['a link to a file of the host', `ln -s ${canary} out`, 'out'],
  ['a link to the passwd file', 'ln -s /etc/passwd out', 'out'],
  ['a link to a device', 'ln -s /dev/zero out', 'out'],
  ['a loop of links', 'ln -s out out', 'out'],
  ['a folder', 'mkdir out', 'out'],
  [
    'a socket',
    'python3 -c "import socket; socket.socket(socket.AF_UNIX).bind(\'out\')" || mkfifo out',
    'out',
  ],
  ['a file without the right to read it', 'echo x >out; chmod 000 out; echo out >.gitignore', 'out'],
];
for (const [name, script, glob] of badArtifacts) {
  hostile(`${name} as an artifact is refused, and nobody waits on it`, async () => {
    const { result } = await attempt(script, { artifacts: [glob] });
    assert.is(result.reason, 'task', `${result.outcome} ${result.detail}`);
    assert.match(result.detail ?? '', /artifact out is not a regular file|git refuses/);
    assert.equal(result.artifacts, []);
  });
}

hostile(
  'a folder that is a link is not entered for artifacts, and a wildcard leaves out what is no file',
  async () => {
    const { result, log } = await attempt(
      `ln -s ${world.folder} link; mkdir real; echo ok >real/canary; mkfifo real/pipe; ln -s ${canary} real/linked; echo x >"real/a\nb"; printf x >"$(printf 'real/\\377')"`,
      { artifacts: ['**/canary', 'real/*', 'link/canary'] },
    );
    assert.is(result.outcome, 'succeeded', result.detail ?? '');
    assert.equal(
      result.artifacts.map(({ path }) => path),
      ['real/canary'],
    );
    assert.is((await bytesOf(member.blobs, result.artifacts[0]!)).toString(), 'ok\n');
    assert.match(log, /artifact real\/pipe is not a regular file/);
    assert.match(log, /no file matches the artifact link\/canary/);
  },
);

hostile('names with a newline, controls or bytes that are no text come back as they are', async () => {
  const { result, task } = await attempt(
    `printf x >"$(printf 'new\\nline')"; printf x >"$(printf 'b\\377d')"; printf x >"$(printf 'e\\033[2Jc')"; printf x >-rf`,
  );
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.is((await changedBy(result, task)).length, 4);
});

hostile('names with controls are escaped where people read them', async () => {
  const { result } = await attempt(
    `d=$(printf 'e\\033[2J\\nsub'); git init -q "$d" && cd "$d" && git -c user.name=x -c user.email=x@x commit -q --allow-empty -m x`,
  );
  assert.is(result.reason, 'task');
  assert.match(result.detail ?? '', /e\\x1b\[2J\\nsub/);
  assert.not.match(result.detail ?? '', /\p{Cc}/u);
});

hostile(
  'escape sequences stay in the log as the task wrote them, and out of every word of ours',
  async () => {
    const { result, log } = await attempt("printf '\\033]0;title\\007\\033[2J'; exit 9 # \u001b[31m", {
      checks: ['printf "\\033c"; false'],
    });
    assert.ok(log.includes('\u001b]0;title\u0007\u001b[2J'));
    const ours = log.split('\n').filter((line) => line.startsWith('superfleet: '));
    assert.not.match(ours.join(''), /\p{Cc}/u);
    assert.not.match(JSON.stringify({ ...result, envelope: null }), /\\u001b/);
  },
);

hostile('folders that nobody may enter or delete are deleted all the same', async () => {
  const { result } = await attempt('mkdir -p deep/er && echo x >deep/er/x && chmod 000 deep/er deep; exit 3');
  assert.is(result.exitCode, 3);
});

hostile('a very deep folder is deleted all the same', async () => {
  const { result } = await attempt('perl -e \'for (1..1500) { mkdir "folder"; chdir "folder"; }\'; exit 3');
  assert.is(result.exitCode, 3);
});

hostile('more changed files than one result may have fail the task', async () => {
  const { result } = await attempt('perl -e \'for (1..60000) { open(F, ">", sprintf("%0240d", $_)); }\'');
  assert.is(result.reason, 'task', result.detail ?? '');
  assert.match(result.detail ?? '', /changes more files than one result may/);
});

test.run();
