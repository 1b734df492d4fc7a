import { chmod, stat, writeFile } from 'node:fs/promises';
import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { dropRoot } from '../../../unprivileged.ts';
import { canRun, World } from '../../attempt/harness.ts';
import { Tools } from './checkout.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const test: Test = suite('what a model does with files');
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

test.run();
