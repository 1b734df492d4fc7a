import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkFilesIn } from '../../../../node/attempt/check-files.ts';
import type { Fetcher } from '../../../../node/environment/fetch.ts';
import { dropRoot } from '../../../unprivileged.ts';
import { canRun, World } from '../../attempt/harness.ts';
import { logOf, Tools } from './checkout.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const test: Test = suite('commands, git, the web and endings');
const world = await World.make();
const repository = world.repository();
await repository.commit({ 'src/add.js': 'old\n' }, 'the first');
const base = await repository.commit(
  {
    'src/add.js': 'export function add(a, b) {\n  return a - b;\n}\n',
    'test/add.test.js': "import assert from 'node:assert';\n",
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

on('run gives exit code and output, and the log has both', async () => {
  const tools = await open({ spec: { env: { COLOUR: 'red' } } });
  await tools.call('write', { path: 'x.sh', content: 'echo "$COLOUR"; echo bad >&2; exit 3\n' });
  const { failed, content } = await tools.call('run', { command: 'sh x.sh' });
  assert.ok(failed);
  assert.match(content, /^exit 3\n/);
  assert.match(content, /red/);
  assert.match(content, /bad/);
  assert.is((await tools.call('run', { command: 'true' })).content, 'exit 0\n(it printed nothing)');
  assert.match(
    (await tools.call('run', { command: './x.sh' })).content,
    /^exit 126: .*may not be executed\n/,
  );
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

on('git sees a change of the same second and size, also when it is asked in a later one', async () => {
  const tools = await open();
  const lines = 'export function add(a, b) {\\n  return a + b;\\n}\\n';
  await tools.call('run', { command: `printf '${lines}' >src/add.js; sleep 1.1` });
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
      return { url, status: 200, type: 'text/plain', body: body() };
    };
    const tools = await open({ persona: 'harper', fetch, secrets: { KEY: 'sesame open' } });
    const page = await tools.call('http', { url: 'https://docs.example/a' });
    const [, mark] =
      /^status 200, text\/plain\n\[data (\w{12}): what https:\/\/docs\.example\/a answered\. [^\n]+\]\né\né\n/.exec(
        page.content,
      ) ?? [];
    assert.ok(
      page.content.endsWith(`; ask for less at once]\n[end of data ${mark}]`),
      page.content.slice(-200),
    );
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
