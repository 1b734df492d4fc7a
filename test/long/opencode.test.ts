// limit: 180 s
/**
 * A goal given to a real coding agent, opencode, in the sandbox: with the configuration of docs/worker.md, a scripted server as its model,
 * and nothing else that it could reach. On request, since it has 170 MB:
 * `npm install --prefix DIR opencode-ai` and `OPENCODE=DIR/node_modules/opencode-linux-x64 npm test -- long/opencode`.
 */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OpenAIBrain } from '../../node/brain/openai.ts';
import { Speeds } from '../../node/brain/speed.ts';
import { checkConfig } from '../../node/config.ts';
import { SandboxRuntime } from '../../node/environment/runtime.ts';
import { Prompts } from '../../node/worker/prompts.ts';
import { ConvergenceWorker } from '../../node/worker/worker.ts';
import type { ScriptedBody } from '../model-server/script.ts';
import { ScriptedOpenAI } from '../model-server/scripted-openai.ts';
import { canRun, executorKey, Member, World } from '../node/attempt/harness.ts';
import { dropRoot } from '../unprivileged.ts';

const folder = process.env.OPENCODE ?? '';
const absent = existsSync(join(folder, 'bin/opencode')) ? canRun : 'OPENCODE names no folder of opencode';
if (absent !== null) console.log(`skipped: ${absent}`);
dropRoot();
const it = absent === null ? test : test.skip;

it('opencode mends what is red, with its model as the only address it reaches', async () => {
  const world = await World.make();
  const repository = world.repository();
  const base = await repository.commit({
    'greet.sh': 'echo Helo\n',
    'test.sh': '[ "$(sh greet.sh)" = Hello ]\n',
  });
  const server = await new ScriptedOpenAI(['scripted-coder']).listen();
  const asked: ScriptedBody[] = [];
  server.script = (body) => {
    asked.push(body);
    // It asks for a title of the conversation, too.
    if (!Array.isArray(body.tools)) return [{ do: 'text', text: 'A greeting' }];
    if (body.messages.some(({ role }) => role === 'tool')) return [{ do: 'text', text: 'Done.' }];
    const file = { filePath: '/workspace/greet.sh', content: 'echo Hello\n' };
    return [{ do: 'call', name: 'write', arguments: file }];
  };
  // As a person would copy it.
  const docs = readFileSync(new URL('../../docs/worker.md', import.meta.url), 'utf8');
  const example = /```json\n(\{\s*"agents"[\s\S]*?)\n```/.exec(docs)?.[1];
  assert.ok(example, 'docs/worker.md has the configuration');
  const { agents } = checkConfig(JSON.parse(example.replaceAll('/opt/opencode', folder)));
  const worker = new ConvergenceWorker({
    brains: async () => [new OpenAIBrain({ url: server.url })],
    agents: () => agents,
    runtime: () => SandboxRuntime.open(join(world.folder, 'runtime')),
    speeds: new Speeds(),
    prompts: new Prompts(null),
  });
  const member = await Member.open(
    join(world.folder, 'member'),
    world.founder,
    'spare-1',
    executorKey,
    worker,
  );
  try {
    const assignment = await world.assignment(
      {
        kind: 'code',
        code: { goal: 'greet.sh is to say Hello.', brain: 'opencode', heals: 0 },
        checks: ['sh test.sh'],
        timeoutMs: 90_000,
      },
      { repository, base },
    );
    const { result, log } = await member.run(assignment);
    assert.is(result.outcome, 'succeeded', `${result.detail}\n${log}`);
    assert.ok(asked.length >= 2);
  } finally {
    await member.runner.close();
    await server.close();
    await world.remove();
  }
});

test.run();
