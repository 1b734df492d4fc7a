import * as fs from 'node:fs';
import { join } from 'node:path';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { isGit } from '../../../../node/worker/tools/workspace.ts';
import { dropRoot } from '../../../unprivileged.ts';
import { canRun, World } from '../../attempt/harness.ts';
import { logOf, Tools } from './checkout.ts';

/** What a hostile or a broken model may try with its tools. */
dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const test: Test = suite('a hostile model');
const world = await World.make();
const repository = world.repository();
const base = await repository.commit({ 'a.txt': 'a\n', 'dir/b.txt': 'b\n', 'test.sh': 'true\n' });
const source = { repository, base };
const canary = join(world.folder, 'canary');
fs.writeFileSync(canary, 'canary-of-the-host\n');
const open = (options: Parameters<typeof Tools.open>[2] = {}): Promise<Tools> =>
  Tools.open(world, source, options);
test.after(() => world.remove());
const on = (name: string, body: () => Promise<void>): void => {
  (canRun === null ? test : test.skip)(name, body);
};

/** Every tool that takes a path, on this one. */
async function everywhere(tools: Tools, path: string): Promise<string[]> {
  const calls: [string, Record<string, unknown>][] = [
    ['read', { path }],
    ['edit', { path, old: 'canary', new: 'evil' }],
    ['write', { path, content: 'evil' }],
    ['list', { folder: path }],
    ['search', { pattern: 'a', folder: path }],
    ['git', { ask: 'blame', path }],
  ];
  const contents: string[] = [];
  for (const [name, args] of calls) {
    const { failed, content } = await tools.call(name, args);
    assert.ok(failed, `${name} ${path}: ${content}`);
    contents.push(content);
  }
  return contents;
}

on('no path leads out of the workspace', async () => {
  const tools = await open();
  const paths = [
    '/etc/shadow',
    '/etc/passwd',
    canary,
    '../x',
    '../../canary',
    'dir/../../x',
    '/workspace/../x',
    '/workspacex',
    'a.txt\0.js',
  ];
  for (const path of [...paths, 'x'.repeat(300), 'y/'.repeat(100), 'z'.repeat(5000)]) {
    for (const content of await everywhere(tools, path)) assert.not.match(content, /canary-of|root:/);
  }
  assert.is(fs.readFileSync(canary, 'utf8'), 'canary-of-the-host\n');
  assert.is(tools.box.changed.size, 0);
  assert.equal(fs.readdirSync(tools.checkout.path).sort(), ['.git', 'a.txt', 'dir', 'test.sh']);
});

on('the git directory is not there, in any spelling', async () => {
  const tools = await open();
  const names = [
    '.git',
    '.GIT',
    '.Git',
    '.git.',
    '.git ',
    '.git. .',
    '.git::$INDEX_ALLOCATION',
    'git~1',
    'GIT~2',
    '.g\u200cit',
    '.git\ufeff',
    '．git',
  ];
  for (const name of names) assert.ok(isGit(name), name);
  for (const name of ['.gitignore', '.github', 'git', 'a.git', 'git~', '..git'])
    assert.not.ok(isGit(name), name);
  const more = ['.git/', './/.git/config', '/workspace/.git/HEAD', 'dir/.git/config', 'dir\\.git\\config'];
  for (const path of [...names, ...more]) {
    for (const content of await everywhere(tools, path))
      assert.not.match(content, /ref: refs|repositoryformat/);
  }
  assert.not.match((await tools.call('list', { depth: 5 })).content, /\.git/);
  const config = await tools.call('run', {
    command: 'echo x >.git/config; echo x >.git/hooks/pre-commit; true',
  });
  assert.match(config.content, /Read-only file system|cannot create/);
  assert.equal(fs.readdirSync(tools.at('.git')), []);
});

on('links that a command left lead nowhere, for reading, writing, listing and searching', async () => {
  const tools = await open();
  const made = await tools.call('run', {
    command: `ln -s ${canary} file; ln -s ${world.folder} folder; ln -s / root; ln -s nothing dangling; ln -s a.txt near; mkfifo fifo; ln -s .git link`,
  });
  assert.not.ok(made.failed, made.content);
  for (const path of [
    'file',
    'folder/canary',
    'root/etc/passwd',
    'dangling',
    'near',
    'fifo',
    'link/HEAD',
    'folder/new',
  ]) {
    await everywhere(tools, path);
  }
  assert.match((await tools.call('read', { path: 'near' })).content, /near is a link, which is not followed/);
  assert.match((await tools.call('read', { path: 'fifo' })).content, /fifo is no regular file/);
  assert.match(
    (await tools.call('read', { path: 'folder/canary' })).content,
    /folder is a link, which is not followed/,
  );
  assert.match(
    (await tools.call('search', { pattern: 'canary' })).content,
    /nothing was found in 3 text files/,
  );
  assert.not.match((await tools.call('list', { depth: 5 })).content, /canary/);
  assert.is(fs.readFileSync(canary, 'utf8'), 'canary-of-the-host\n');
  assert.not.ok(fs.existsSync(join(world.folder, 'new')));
});

on('a flood of output, of names or of matches is cut, and says so', async () => {
  const tools = await open();
  const flood = await tools.call('run', { command: 'echo first; yes flood | head -c 30000000; echo last' });
  assert.match(
    flood.content,
    /^exit 0\nfirst\nflood\n[\s\S]*\n\[cut: 299\d{5} bytes; print less, or into a file and read that\]\n[\s\S]*flood\nlast$/,
  );
  assert.ok(flood.content.length < 16_100);
  const binary = await tools.call('run', { command: 'head -c 1000000 /dev/urandom' });
  assert.ok(binary.content.length < 16_100);
  assert.match(binary.content, /^exit 0\n/);
  await tools.call('run', {
    command:
      'mkdir many; cd many; seq 1 5000 | xargs touch; head -c 9000000 /dev/zero >../big; printf "%0100000d" 1 >../wide',
  });
  assert.match(
    (await tools.call('list', { folder: 'many' })).content,
    /\n\[cut: \d+ more names; list a folder of it, or use glob\]$/,
  );
  assert.match(
    (await tools.call('read', { path: 'big' })).content,
    /big has more than 4194304 bytes, which is too large/,
  );
  assert.ok((await tools.call('read', { path: 'wide' })).content.length < 2100);
  const searched = await tools.call('search', { pattern: '0', glob: '{wide,big}' });
  assert.match(
    searched.content,
    /^wide:1: 0+…\n\[1 files larger than .* left out\]\n\[1 lines were searched in their first 2048/,
  );
});

on('an edit cannot blow a file up, and an attempt writes no more than its workspace may hold', async () => {
  const tools = await open({ spec: { limits: { workspaceBytes: 5_000_000 } } });
  assert.not.ok((await tools.call('write', { path: 'x', content: 'a'.repeat(1_000_000) })).failed);
  const blown = await tools.call('edit', { path: 'x', old: 'a', new: 'b'.repeat(1_000_000), all: true });
  assert.match(blown.content, /would have more than 4194304 bytes; nothing was changed/);
  const large = await tools.call('write', { path: 'y', content: 'a'.repeat(4_194_305) });
  assert.match(large.content, /at most 4194304 are written/);
  assert.not.ok((await tools.call('write', { path: 'y', content: 'a'.repeat(4_000_000) })).failed);
  assert.match((await tools.call('write', { path: 'z', content: 'a' })).content, /may write 5000000 at most/);
  assert.not.ok(fs.existsSync(tools.at('z')));
});

on('no regular expression hangs the node, and others run meanwhile', async () => {
  const tools = await open();
  fs.writeFileSync(tools.at('aaa'), `${'a'.repeat(2000)}!\n`.repeat(500));
  let bits = 1;
  const noise = (): string => {
    bits ^= bits << 13;
    bits ^= bits >>> 17;
    bits ^= bits << 5;
    return bits < 0 ? 'a' : 'b';
  };
  fs.writeFileSync(
    tools.at('noise'),
    Array.from({ length: 1000 }, () => `${Array.from({ length: 2000 }, noise).join('')}\n`).join(''),
  );
  let beats = 0;
  const timer = setInterval(() => {
    beats += 1;
  }, 5);
  const began = performance.now();
  try {
    for (const pattern of ['(a+)+$', '(a|a)*b', '(a|aa)+\\?$', '^(([a-z])+.)+[A-Z]([a-z])+$']) {
      const { failed, content } = await tools.call('search', { pattern, regex: true, glob: 'aaa' });
      assert.not.ok(failed, content);
      assert.match(content, /^nothing was found in 1 text/);
    }
    const worst = await tools.call('search', {
      pattern: '[ab]*a[ab]{300}[xc]',
      regex: true,
      glob: 'noise',
    });
    assert.match(worst.content, /^nothing was found in 1 text files\.\n\[cut: it took 3000 ms; /);
  } finally {
    clearInterval(timer);
  }
  assert.ok(performance.now() - began < 30_000);
  assert.ok(beats > 3, `${beats} beats`);
  for (const pattern of ['(a?){1000}a{1000}', '((a{30}){30}){30}', '(', '\\1']) {
    assert.ok((await tools.call('search', { pattern, regex: true })).failed, pattern);
  }
});

on(
  'a fork bomb ends at the limit of processes, a daemon with its command, sleep with the clock',
  async () => {
    const tools = await open({ spec: { limits: { processes: 64 } } });
    const bomb = await tools.call('run', {
      command: 'bomb() { bomb | bomb & wait; }; bomb; sleep 30',
      seconds: 5,
    });
    assert.ok(bomb.failed);
    assert.match(
      bomb.content,
      /limit of 64 processes|Cannot fork|Resource temporarily unavailable|ended after its 5000 ms/,
    );
    const daemon = await tools.call('run', {
      command: '(setsid sh -c "sleep 0.2; echo alive >late" >/dev/null 2>&1 &) ; echo started',
    });
    assert.is(daemon.content, 'exit 0\nstarted');
    const asleep = await tools.call('run', { command: 'echo before; sleep 60', seconds: 1 });
    assert.match(asleep.content, /^run was ended after its 1000 ms\nbefore$/);
    // That took longer than the daemon's own sleep.
    assert.not.ok(fs.existsSync(tools.at('late')));
  },
);

on('the time of the task bounds that of a command', async () => {
  const tools = await open({ remainingMs: () => 300 });
  assert.match(
    (await tools.call('run', { command: 'sleep 60', seconds: 3600 })).content,
    /^run was ended after its 300 ms/,
  );
  const late = await open({ remainingMs: () => 0 });
  assert.match((await late.call('run', { command: 'true' })).content, /time of the task is up/);
});

on('a command reaches no network and nothing of the host', async () => {
  const tools = await open();
  const command =
    'cat /etc/shadow; cat ../canary; (exec 3<>/dev/tcp/1.1.1.1/53) 2>&1; curl -sS -m 5 http://1.1.1.1/ 2>&1; ls /sys/class/net 2>/dev/null; cat /proc/net/dev | tail -n +3 | cut -d: -f1; id -u; echo end';
  const { content } = await tools.call('run', { command: `bash -c '${command}'` });
  assert.not.match(content, /root:|canary-of|eth0|ens\d/);
  assert.match(content, /Network is unreachable/);
  assert.match(content, /end$/);
});

on('a secret of the task is masked wherever a tool shows it, cut or whole', async () => {
  const secret = 'correct-horse-battery';
  const tools = await open({ secrets: { TOKEN: secret } });
  const shown = await tools.call('run', {
    command: `echo "$TOKEN" | tee leak; echo "$TOKEN" >"name-$TOKEN"; head -c 3964 /dev/zero | tr '\\0' x; printf "$TOKEN"; yes x | head -c 20000`,
  });
  assert.not.ok(shown.failed);
  const calls: [string, Record<string, unknown>][] = [
    ['read', { path: 'leak' }],
    ['list', {}],
    ['search', { pattern: 'corr' }],
    ['search', { pattern: '*' }],
    ['edit', { path: 'leak', old: 'correct', new: 'x' }],
    ['edit', { path: 'leak', old: 'correct-horse-BATTERY', new: 'x' }],
    ['git', { ask: 'diff' }],
    ['git', { ask: 'status' }],
    ['nothing', {}],
  ];
  const contents = [shown.content];
  for (const [name, args] of calls) contents.push((await tools.call(name, args)).content);
  for (const content of contents) assert.not.match(content, /correct-horse|horse-battery|battery/);
  assert.match(contents[1] ?? '', /\*\*\*/);
  assert.not.match((await logOf(world, tools)).join('\n'), /horse/);
});

on('controls that a terminal would obey come as escapes', async () => {
  const tools = await open();
  const shown = await tools.call('run', {
    command: "printf '\\033]0;title\\007\\033[2J\\tok\\n\\342\\200\\256evil'",
  });
  assert.is(shown.content, 'exit 0\n\\x1b]0;title\\x07\\x1b[2J\tok\n\\u{202e}evil');
  const name = await tools.call('write', { path: 'a\u001b[2J', content: '\u001b[31mred' });
  assert.not.match(name.content, /\u001b/);
  assert.is((await tools.call('read', { path: 'a\u001b[2J' })).content, '1\t\\x1b[31mred');
});

on('a signal ends a command that runs; the call rejects with its reason', async () => {
  const stop = new AbortController();
  const tools = await Tools.open(world, source, {}, stop.signal);
  const running = tools.call('run', { command: 'sleep 60' });
  const reason = new Error('the lease is lost');
  setImmediate(() => stop.abort(reason));
  const thrown = await running.catch((error: unknown) => error);
  assert.is(thrown, reason);
  const after = await tools.call('read', { path: 'a.txt' }).catch((error: unknown) => error);
  assert.is(after, reason);
});

test.run();
