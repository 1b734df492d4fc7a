// limit: 100 s
/** What models and their servers do that is no repair: each ends in a failure of its own reason, says why, and leaves no commit but a part that its model says is one. */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { hopeless } from '../../repairs/hopeless.ts';
import { scriptFor } from '../../repairs/repair.ts';
import { Workbench } from '../../repairs/workbench.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const { script } = scriptFor(hopeless);
const server = await new ScriptedOllama(['scripted-coder:7b'], script).listen();
const { url } = server;
// A server that failed is asked again as ever, but at once: how long is waited is for loop.test.ts to say.
const waits: number[] = [];
const workbench = await Workbench.open(
  async () => [new OllamaBrain({ url })],
  async (ms) => waits.push(ms),
);
test.after(() => workbench.close());

for (const one of hopeless) {
  it(`${one.name} fails: ${one.reason}`, async () => {
    const { result, receipt, log, changed } = await workbench.run(one);
    assert.equal(
      [result.outcome, result.reason, result.fault],
      ['failed', one.reason, one.fault],
      result.detail ?? log,
    );
    assert.match(result.detail ?? '', one.says);
    if (one.part) assert.equal([result.commit, changed], [receipt?.commit, ['M\tgreet.sh']]);
    else assert.equal([result.commit, result.bundle, changed], [null, null, []]);
    if (one.logged !== undefined) assert.match(log, one.logged);
    assert.ok(
      receipt === null || receipt.checks.every(({ exitCode }) => exitCode !== 0),
      'no check is said to be green',
    );
  });
}

it('what must be said is more than the model holds: context, and no commit', async () => {
  server.models.splice(0, 1, { name: 'small-coder:1b', contextTokens: 4096 });
  const goal = `greet.sh is to say Hello. ${'It matters very much. '.repeat(360)}`.slice(0, 8000).trim();
  const { result } = await workbench.run({ ...hopeless[0]!, name: 'context-overflow', goal });
  assert.equal(
    [result.outcome, result.reason, result.fault, result.commit],
    ['failed', 'task', 'task', null],
  );
  assert.match(result.detail!, /\(context\): what must be said takes more than small-coder:1b holds/);
});

it('the server is gone: environment, which costs the task nothing', async () => {
  await server.close();
  const { result } = await workbench.run({ ...hopeless[0]!, name: 'server-gone' });
  assert.equal([result.outcome, result.reason, result.fault], ['failed', 'environment', 'machine']);
  assert.match(result.detail!, /no model on spare-1 can work on this: .*cannot be reached/);
});

it('servers that may recover were asked again, after waits', () => {
  assert.ok(waits.length >= 10 && waits.every((ms) => ms >= 500), waits.join());
});

it('of all of them only the reports are left in the folder of attempts', async () => {
  const left = await workbench.member.leftBehind();
  assert.equal(
    left.filter((path) => !/^[a-z]+\.1\.1(\/result\.json)?$/.test(path)),
    [],
  );
});

test.run();
