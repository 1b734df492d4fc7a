import { chmod, stat, writeFile } from 'node:fs/promises';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkFilesIn } from '../../../../node/attempt/check-files.ts';
import type { Fetcher } from '../../../../node/worker/tools/http.ts';
import { dropRoot } from '../../../unprivileged.ts';
import { canRun, World } from '../../attempt/harness.ts';
import { logOf, Tools } from './checkout.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const test: Test = suite('what a model does with a checkout');
const world = await World.make();
const repository = world.repository();
const numbers = Array.from({ length: 3000 }, (_, index) => `line ${index + 1}`).join('\n');
await repository.commit({ 'src/add.js': 'old\n' }, 'the first');
const base = await repository.commit(
  {
    'src/add.js': 'export function add(a, b) {\n  return a - b;\n}\n',
    'src/twice.js': 'x = 1;\ny = 2;\nx = 1;\n',
    'src/crlf.txt': 'one\r\ntwo\r\n',
    'test/add.test.js': "import assert from 'node:assert';\n",
    'node_modules/dep/index.js': 'return a - b;\n',
    'long.txt': numbers,
    'empty.txt': '',
    '.gitignore': 'built/\n',
  },
  'the second',
);
const source = { repository, base };
const open = (options: Parameters<typeof Tools.open>[2] = {}): Promise<Tools> =>
  Tools.open(world, source, options);
test.after(() => world.remove());
const on = (name: string, body: () => Promise<void>): void => {
  (canRun === null ? test : test.skip)(name, body);
};

on(
  'list shows a folder, and by glob what is below it; git and large foreign folders are not looked into',
  async () => {
    const tools = await open();
    const top = await tools.call('list', {});
    assert.equal(top.content.split('\n'), [
      '.gitignore  7',
      'empty.txt  0',
      `long.txt  ${numbers.length}`,
      'node_modules/',
      'src/',
      'test/',
    ]);
    const found = await tools.call('list', { glob: '**/*.js', folder: '/workspace' });
    assert.equal(found.content.split('\n'), [
      'src/add.js  46',
      'src/twice.js  21',
      'test/add.test.js  34',
      '[not looked into: node_modules; name such a folder to do so]',
    ]);
    assert.match(
      (await tools.call('list', { folder: 'node_modules', depth: 2 })).content,
      /dep\/index\.js {2}14/,
    );
    const none = await tools.call('list', { folder: 'nowhere' });
    assert.ok(none.failed);
    assert.match(none.content, /there is no folder nowhere\. Use list/);
  },
);

on('read numbers lines, shows a range and says how to go on', async () => {
  const tools = await open();
  const file = await tools.call('read', { path: './src//add.js' });
  assert.is(file.content, '1\texport function add(a, b) {\n2\t  return a - b;\n3\t}');
  const part = await tools.call('read', { path: 'long.txt', from: '10', lines: 2 });
  assert.is(part.content, '10\tline 10\n11\tline 11\n[lines 10 to 11 of 3000; read on with from: 12]');
  const all = await tools.call('read', { path: 'long.txt' });
  assert.ok(all.content.length <= 16_000);
  const next = /read on with from: (\d+)\]$/.exec(all.content)?.[1];
  assert.match(
    (await tools.call('read', { path: 'long.txt', from: Number(next) })).content,
    new RegExp(`^${next}\tline ${next}\n`),
  );
  assert.is((await tools.call('read', { path: 'empty.txt' })).content, 'empty.txt is empty.');
  assert.match((await tools.call('read', { path: 'empty.txt/x' })).content, /empty\.txt is no folder/);
  assert.match((await tools.call('read', { path: 'src' })).content, /src is a folder\. Use list/);
  assert.match(
    (await tools.call('read', { path: 'long.txt', from: 5000 })).content,
    /has 3000 lines, so there is no line 5000/,
  );
});

on('search finds a text or an RE2 pattern, line by line', async () => {
  const tools = await open();
  assert.is(
    (await tools.call('search', { pattern: 'a - b' })).content,
    'src/add.js:2: return a - b;\n[not looked into: node_modules; name such a folder to do so]',
  );
  assert.match(
    (await tools.call('search', { pattern: 'A - B', ignoreCase: 'true', glob: 'src/*' })).content,
    /^src\/add\.js:2: /,
  );
  assert.match(
    (await tools.call('search', { pattern: '^x\\s*=\\s*\\d', regex: true, folder: 'src' })).content,
    /^src\/twice\.js:1: x = 1;\nsrc\/twice\.js:3: /,
  );
  assert.match(
    (await tools.call('search', { pattern: 'no such thing' })).content,
    /^nothing was found in 7 text files/,
  );
  const many = await tools.call('search', { pattern: 'line' });
  assert.match(many.content, /long\.txt:200: line 200\n\[cut: 200 lines were found; search a folder/);
  const wrong = await tools.call('search', { pattern: '(?=x)', regex: true });
  assert.ok(wrong.failed);
  assert.match(wrong.content, /no RE2 regular expression: .*Look-around and back-references do not exist/);
});

on('edit replaces what is there exactly once, and all of it where that is asked for', async () => {
  const tools = await open();
  await chmod(tools.at('src/add.js'), 0o755);
  const done = await tools.call('edit', { path: 'src/add.js', old: 'a - b', new: "a + b /* $& $' */" });
  assert.is(done.content, 'src/add.js was changed at line 2.');
  assert.match(await tools.text('src/add.js'), /\n {2}return a \+ b \/\* \$& \$' \*\/;\n/);
  assert.is((await stat(tools.at('src/add.js'))).mode & 0o777, 0o755);
  const twice = await tools.call('edit', { path: 'src/twice.js', old: 'x = 1;', new: 'x = 3;' });
  assert.ok(twice.failed);
  assert.match(twice.content, /has that text 2 times, at lines 1, 3; nothing was changed/);
  assert.is(await tools.text('src/twice.js'), 'x = 1;\ny = 2;\nx = 1;\n');
  assert.is(
    (await tools.call('edit', { path: 'src/twice.js', old: 'x = 1;', new: '', all: true })).content,
    'src/twice.js was changed in 2 places.',
  );
  assert.is(await tools.text('src/twice.js'), '\ny = 2;\n\n');
  assert.equal([...tools.box.changed], ['src/add.js', 'src/twice.js']);
});

on('edit says what comes nearest where the text is not there', async () => {
  const tools = await open();
  const miss = async (path: string, old: string): Promise<string> => {
    const { failed, content } = await tools.call('edit', { path, old, new: 'x' });
    assert.ok(failed);
    return content;
  };
  assert.match(
    await miss('src/add.js', '\treturn a - b;\n}'),
    /differs only in white space from lines 2 to 3:\n {2}return a - b;\n}/,
  );
  assert.match(await miss('src/add.js', 'Return A-B;'), /differs only in case and white space from line 2:/);
  assert.match(await miss('src/add.js', '2\t  return a - b;\n3\t}'), /without the line numbers/);
  assert.match(await miss('src/add.js', '  return a - b;\n  // end'), /The nearest is lines 2 to 3:/);
  assert.match(await miss('src/add.js', 'nothing like it'), /No line of it is in the file/);
  assert.match(await miss('src/none.js', 'x'), /there is no file src\/none\.js/);
  assert.is(tools.box.changed.size, 0);
});

on('edit keeps CRLF line ends, and bytes that are no text are left alone', async () => {
  const tools = await open();
  assert.match(
    (await tools.call('read', { path: 'src/crlf.txt' })).content,
    /^1\tone\n2\ttwo\n\[its lines end in CRLF/,
  );
  await tools.call('edit', { path: 'src/crlf.txt', old: 'one\ntwo', new: 'one\nthree\ntwo' });
  assert.is(await tools.text('src/crlf.txt'), 'one\r\nthree\r\ntwo\r\n');
  await writeFile(tools.at('latin1'), Buffer.from([0x61, 0xe9, 0x0a]));
  const refused = await tools.call('edit', { path: 'latin1', old: 'a', new: 'b' });
  assert.match(refused.content, /latin1 is no text in UTF-8 \(it has 3 bytes\)/);
});

on('write makes files and folders and replaces whole files', async () => {
  const tools = await open();
  assert.is(
    (await tools.call('write', { path: 'a/b/c.txt', content: 'é\n' })).content,
    'a/b/c.txt was made: 3 bytes.',
  );
  assert.is(await tools.text('a/b/c.txt'), 'é\n');
  assert.is((await stat(tools.at('a/b/c.txt'))).mode & 0o777, 0o644);
  assert.match(
    (await tools.call('write', { path: '/workspace/a/b/c.txt', content: '' })).content,
    /was replaced: 0 bytes/,
  );
  assert.ok((await tools.call('write', { path: 'src', content: 'x' })).failed);
  assert.ok((await tools.call('write', { path: 'src/add.js/x', content: 'x' })).failed);
  assert.ok((await tools.call('write', { path: 'src/new/', content: 'x' })).failed);
  assert.equal([...tools.box.changed], ['a/b/c.txt']);
});

on('run gives exit code and output, and the log has both', async () => {
  const tools = await open({ spec: { env: { COLOUR: 'red' } } });
  await tools.call('write', { path: 'x.sh', content: 'echo "$COLOUR"; echo bad >&2; exit 3\n' });
  const { failed, content } = await tools.call('run', { command: 'sh x.sh' });
  assert.ok(failed);
  assert.match(content, /^exit 3\n/);
  assert.match(content, /red/);
  assert.match(content, /bad/);
  assert.is((await tools.call('run', { command: 'true' })).content, 'exit 0\n(it printed nothing)');
  const missing = await tools.call('run', { command: 'no-such-program' });
  assert.match(missing.content, /^exit 127: a program that it needs is not on this machine\n.*not found/);
  const log = await logOf(world, tools);
  assert.equal(
    log.filter((line) => /^superfleet: run: (sh|exit [03]|true)/.test(line)),
    [
      'superfleet: run: sh x.sh',
      'superfleet: run: exit 3',
      'superfleet: run: true',
      'superfleet: run: exit 0',
    ],
  );
  assert.ok(log.includes('red'));
});

on('git tells of the checkout, new files too, and changes nothing', async () => {
  const tools = await open();
  await tools.call('edit', { path: 'src/add.js', old: 'a - b', new: 'a + b' });
  await tools.call('write', { path: 'new file.txt', content: 'fresh\n' });
  await tools.call('write', { path: 'built/x', content: 'ignored\n' });
  assert.equal((await tools.call('git', { ask: 'status' })).content.trimEnd().split('\n'), [
    ' M src/add.js',
    '?? "new file.txt"',
  ]);
  const diff = (await tools.call('git', { ask: 'diff' })).content;
  assert.match(diff, /- {2}return a - b;\n\+ {2}return a \+ b;/);
  assert.match(diff, /\+fresh/);
  assert.not.match(diff, /ignored/);
  assert.not.match((await tools.call('git', { ask: 'diff', path: 'new file.txt' })).content, /add\.js/);
  assert.match(
    (await tools.call('git', { ask: 'log' })).content,
    /^[0-9a-f]+ \S+ Test: the second\n[0-9a-f]+ \S+ Test: the first\n$/,
  );
  assert.is(
    (await tools.call('git', { ask: 'show', revision: 'HEAD~1', path: 'src/add.js' })).content,
    'old\n',
  );
  assert.match((await tools.call('git', { ask: 'show' })).content, /the second[\s\S]*\+export function add/);
  assert.match(
    (await tools.call('git', { ask: 'blame', path: 'src/add.js', from: 2, to: 2 })).content,
    /Not Committed Yet .* return a \+ b;\n$/,
  );
  const unknown = await tools.call('git', { ask: 'show', revision: 'nowhere' });
  assert.ok(unknown.failed);
  assert.match(unknown.content, /^git show: fatal: .*nowhere/);
  assert.ok((await tools.call('git', { ask: 'show', revision: '--output=/workspace/x' })).failed);
  // What was asked leaves no trace in what is taken.
  const words = { message: 'm', name: 'n', email: 'e@e.invalid' };
  const taken = await tools.checkout.repository!.take(words, 1_700_000_000, 1e8, () => {}, tools.signal);
  assert.equal(
    taken.changes.map(({ path }) => String(path)),
    ['new file.txt', 'src/add.js'],
  );
});

on('git sees a change of the same second and size', async () => {
  const tools = await open();
  await tools.call('run', {
    command: "printf 'export function add(a, b) {\\n  return a + b;\\n}\\n' >src/add.js",
  });
  assert.is((await tools.call('git', { ask: 'status' })).content, ' M src/add.js\n');
});

on('a task without a repository has the tools for files, and git says what is missing', async () => {
  const tools = await Tools.open(world, null);
  assert.is((await tools.call('list', {})).content, '. is empty.');
  await tools.call('write', { path: 'x', content: 'x' });
  assert.is((await tools.call('run', { command: 'cat x' })).content, 'exit 0\nx');
  assert.match((await tools.call('git', { ask: 'status' })).content, /this task has no repository/);
  assert.not.ok(tools.box.definitions.some(({ name }) => name === 'git'));
});

on('a change of the checks is made, and found out by what git finds in the end', async () => {
  const tools = await open();
  await tools.call('write', { path: 'test/add.test.js', content: '' });
  await tools.call('edit', { path: 'src/add.js', old: 'a - b', new: 'a + b' });
  const words = { message: 'm', name: 'n', email: 'e@e.invalid' };
  const { changes } = await tools.checkout.repository!.take(
    words,
    1_700_000_000,
    1e8,
    () => {},
    tools.signal,
  );
  const { changed, restore } = checkFilesIn(['node --test test/'], [], changes);
  assert.equal(changed, ['test/add.test.js']);
  assert.equal(restore.map(String), ['test/add.test.js']);
});

on('finish and signal are told to the loop', async () => {
  const tools = await open({ persona: 'evaluator' });
  const finish = await tools.call('finish', { summary: 'done', lowConfidence: null });
  assert.equal(finish.ending, { kind: 'finish', summary: 'done', lowConfidence: false });
  const signal = await tools.call('signal', { signal: 'clarification_needed', text: 'Which file?' });
  assert.equal(signal.ending, { kind: 'signal', signal: 'clarification_needed', text: 'Which file?' });
  const wrong = await tools.call('signal', { signal: 'give_up', text: 'x' });
  assert.ok(wrong.failed);
  assert.is(wrong.ending, undefined);
  assert.match(wrong.content, /signal: .*clarification_needed.* \(got "give_up"\)/);
});

on(
  'http says that no hosts were allowed; where some were it gets a page, bounded, and never sends a secret',
  async () => {
    const none = await open();
    const answer = await none.call('http', { url: 'https://example.org/' });
    assert.ok(answer.failed);
    assert.match(answer.content, /the owner of this machine allowed no hosts/);
    assert.not.ok(none.box.definitions.some(({ name }) => name === 'http'));
    const asked: string[] = [];
    let ended = 0;
    const fetch: Fetcher = async (url) => {
      asked.push(url.href);
      if (url.hostname !== 'docs.example') throw new Error('the owner did not allow that host');
      const body = async function* (): AsyncGenerator<Buffer> {
        try {
          for (;;) yield Buffer.from('é\n'.repeat(1000));
        } finally {
          ended += 1;
        }
      };
      return { status: 200, type: 'text/plain', body: body() };
    };
    const tools = await open({ persona: 'harper', fetch, secrets: { KEY: 'sesame open' } });
    const page = await tools.call('http', { url: 'https://docs.example/a' });
    assert.match(page.content, /^status 200, text\/plain\né\né\n/);
    assert.match(page.content, /\[cut: \d+ more characters; ask for less at once\]$/);
    assert.is(ended, 1);
    assert.match(
      (await tools.call('http', { url: 'http://other.example/' })).content,
      /did not allow that host/,
    );
    const before = asked.length;
    for (const url of [
      'https://docs.example/?sesame%20open',
      'file:///etc/passwd',
      'https://a:b@docs.example/',
      'x',
    ]) {
      assert.ok((await tools.call('http', { url })).failed, url);
    }
    assert.is(asked.length, before);
  },
);

test.run();
