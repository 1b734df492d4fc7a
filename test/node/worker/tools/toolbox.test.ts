import { suite, type Test } from 'uvu';
import * as assert from 'uvu/assert';
import { z } from 'zod';
import { personaOf } from '../../../../node/worker/persona.ts';
import { defineTool } from '../../../../node/worker/tools/tool.ts';
import { TOOLS, Toolbox } from '../../../../node/worker/tools/toolbox.ts';
import { dropRoot } from '../../../unprivileged.ts';
import { canRun, World } from '../../attempt/harness.ts';
import { logOf, Tools } from './checkout.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const test: Test = suite('the tools of a persona');
const world = await World.make();
const repository = world.repository();
const base = await repository.commit({ 'a.txt': 'a\n' });
const open = (options: Parameters<typeof Tools.open>[2] = {}): Promise<Tools> =>
  Tools.open(world, { repository, base }, options);
test.after(() => world.remove());
const on = (name: string, body: () => Promise<void>): void => {
  (canRun === null ? test : test.skip)(name, body);
};
const taken = async (tools: Tools): Promise<string[]> => {
  const words = { message: 'm', name: 'n', email: 'e@e.invalid' };
  const { changes } = await tools.checkout.repository!.take(
    words,
    1_700_000_000,
    1e8,
    () => {},
    tools.signal,
  );
  return changes.map(({ path }) => String(path));
};
const names = (box: Toolbox): string[] => box.definitions.map(({ name }) => name);

on(
  "a reader's edit, write and run are not executed: nothing is changed, and one line of the log says so",
  async () => {
    for (const persona of ['captain', 'harper', 'evaluator', 'somebody']) {
      const tools = await open({ persona });
      for (let times = 0; times < 2; times += 1) {
        const calls: [string, Record<string, unknown>][] = [
          ['edit', { path: 'a.txt', old: 'a', new: 'b' }],
          ['write', { path: 'new', content: 'x' }],
          ['run', { command: 'touch new' }],
          ['run', { nonsense: true }],
        ];
        for (const [name, args] of calls) {
          const { content, failed, refused, changed } = await tools.call(name, args);
          assert.equal([failed, refused, changed], [true, true, undefined]);
          assert.is(content, `${name} was not executed, nothing was changed: ${persona} reads only.`);
        }
      }
      assert.is(await tools.text('a.txt'), 'a\n');
      assert.is(tools.box.changed.size, 0);
      assert.is(tools.box.refused, 8);
      assert.equal(await taken(tools), []);
      assert.equal(await logOf(world, tools), [
        `superfleet: ${persona} reads only: edit was not executed, nor is any later call like it`,
      ]);
    }
  },
);

on("a writer's calls are executed, and leave no such line", async () => {
  for (const persona of ['benjamin', 'lucas']) {
    const tools = await open({ persona });
    assert.not.ok((await tools.call('edit', { path: 'a.txt', old: 'a', new: 'b' })).failed);
    assert.is(await tools.text('a.txt'), 'b\n');
    assert.is(tools.box.refused, 0);
    assert.equal(await taken(tools), ['a.txt']);
    assert.equal(await logOf(world, tools), []);
  }
});

on('a model is told of what it may use; all of it comes as JSON schema of an object', async () => {
  const reader = await open({ persona: 'harper' });
  assert.equal(names(reader.box), ['list', 'read', 'search', 'git', 'finish', 'signal']);
  const writer = await open({ fetch: () => Promise.reject(new Error('no')) });
  assert.equal(
    names(writer.box),
    TOOLS.map(({ name }) => name),
  );
  for (const { name, description, parameters } of writer.box.definitions) {
    assert.is(parameters.type, 'object', name);
    assert.is(parameters.additionalProperties, false, name);
    assert.not.ok('$schema' in parameters, name);
    assert.ok(description.length > 20 && description.length < 400, name);
  }
  const edit = writer.box.definitions.find(({ name }) => name === 'edit');
  assert.equal(edit?.parameters.required, ['path', 'old', 'new']);
});

on('a task may allow less than its persona', async () => {
  const tools = await open();
  const box = new Toolbox({
    persona: personaOf('benjamin', null),
    context: tools.context,
    allowed: new Set(['read', 'write']),
  });
  const refused = await box.call(
    { id: '1', name: 'run', arguments: { command: 'true' }, text: '' },
    tools.signal,
  );
  assert.is(refused.content, 'run was not executed, nothing was changed: this task does not allow to run.');
  assert.not.ok(names(box).includes('run'));
  assert.ok(names(box).includes('write'));
});

on('an unknown name is answered with those there are, for this persona', async () => {
  const tools = await open({ persona: 'captain' });
  const { failed, content } = await tools.call('delete_everything\u001b[2J', {});
  assert.ok(failed);
  assert.is(
    content,
    'there is no tool "delete_everything\\\\x1b[2J". There are: list, read, search, git, finish, signal.',
  );
  for (const name of ['constructor', '__proto__', '', 'x'.repeat(10_000)]) {
    const answer = await tools.call(name, {});
    assert.match(answer.content, /^there is no tool /);
    assert.ok(answer.content.length < 300);
  }
});

on('bad arguments are an answer: what was expected, what came', async () => {
  const tools = await open();
  const bad = async (args: Record<string, unknown> | null): Promise<string> => {
    const { failed, content } = await tools.call('read', args);
    assert.ok(failed);
    return content;
  };
  assert.match(
    await bad(null),
    /^read: its arguments are not a JSON object\. Expected one of this schema: \{"type":"object"/,
  );
  assert.match(await bad({}), /^read: nothing was done.*\n- path: .*expected string.*\nExpected: \{/);
  assert.match(await bad({ path: 7 }), /- path: .*expected string.* \(got 7\)/);
  assert.match(await bad({ path: 'a.txt', line: 3 }), /Unrecognized key: "line"/);
  assert.match(await bad({ path: 'a.txt', from: 0 }), /- from: .* \(got 0\)/);
  assert.match(await bad({ path: ['x'.repeat(100_000)] }), /…\)/);
  assert.ok((await bad({ path: ['x'.repeat(100_000)] })).length < 1500);
  assert.not.ok((await tools.call('read', { path: 'a.txt', from: '1', lines: null })).failed);
});

on(
  'the same call that fails again is counted, in whatever order its arguments come, until something changed',
  async () => {
    const tools = await open();
    const failing = async (args: Record<string, unknown>): Promise<number> =>
      (await tools.call('edit', args)).repeats;
    assert.is(await failing({ path: 'a.txt', old: 'x', new: 'y' }), 1);
    assert.is(await failing({ new: 'y', old: 'x', path: 'a.txt' }), 2);
    assert.is(await failing({ path: 'a.txt', old: 'x', new: 'z' }), 1);
    assert.is((await tools.call('read', { path: 'a.txt' })).repeats, 0);
    assert.is(await failing({ path: 'a.txt', old: 'x', new: 'y' }), 3);
    assert.is((await tools.call('run', { command: 'false' })).repeats, 1);
    assert.is((await tools.call('run', { command: 'false' })).repeats, 2);
    await tools.call('edit', { path: 'a.txt', old: 'a', new: 'b' });
    assert.is((await tools.call('run', { command: 'false' })).repeats, 1);
    assert.is(await failing({ path: 'a.txt', old: 'x', new: 'y' }), 1);
    assert.is((await tools.call('nothing', null)).repeats, 1);
    assert.is((await tools.call('nothing', null)).repeats, 2);
    assert.is(tools.box.calls, 12);
  },
);

on('calls made at once are done one after the other, in their order', async () => {
  const tools = await open();
  const done = await Promise.all([
    tools.call('run', { command: 'sleep 0.3; echo 1 >>a.txt' }),
    tools.call('read', { path: 'a.txt' }),
    tools.call('edit', { path: 'a.txt', old: '1', new: '2' }),
    tools.call('run', { command: 'cat a.txt' }),
  ]);
  assert.equal(
    done.map(({ content }) => content),
    ['exit 0\n(it printed nothing)', '1\ta\n2\t1', 'a.txt was changed at line 2.', 'exit 0\na\n2'],
  );
});

on('a tool that throws breaks its own call and none after it', async () => {
  const tools = await open();
  const broken = defineTool({
    name: 'broken',
    description: 'Throws.',
    needs: 'read',
    parameters: z.strictObject({}),
    run: () => Promise.reject(new Error('the disk is full')),
  });
  const box = new Toolbox({ persona: personaOf('x', null), context: tools.context, tools: [broken] });
  for (let times = 0; times < 2; times += 1) {
    const thrown = await box
      .call({ id: '1', name: 'broken', arguments: {}, text: '{}' }, tools.signal)
      .catch((error: unknown) => error);
    assert.match((thrown as Error).message, /the disk is full/);
  }
  assert.is(box.calls, 2);
  assert.throws(
    () => new Toolbox({ persona: personaOf('x', null), context: tools.context, tools: [broken, broken] }),
    /one name/,
  );
});

test.run();
