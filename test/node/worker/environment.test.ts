// limit: 120 s
/** Goals in repositories with dependencies: a scripted Ollama server over real HTTP, real npm, git and sandbox. */
import { readdir } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { GoalWorker } from '../../../node/attempt/goal.ts';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import { Prompts } from '../../../node/worker/prompts.ts';
import { ConvergenceWorker } from '../../../node/worker/worker.ts';
import type { ScriptedBody, Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun, executorKey, Member, World } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const world = await World.make();
const server = await new ScriptedOllama(['scripted-coder:7b']).listen();
const workerOf = (brains: OllamaBrain[]): GoalWorker =>
  new ConvergenceWorker({ brains: async () => brains, speeds: new Speeds(), prompts: new Prompts(null) });
const open = (name: string, worker: GoalWorker, hosts: string[]): Promise<Member> => {
  const allowed = hosts.map((host) => ({ host }));
  return Member.open(join(world.folder, name), world.founder, name, executorKey, worker, allowed);
};
const thinking = workerOf([new OllamaBrain({ url: server.url })]);
const allowing = await open('allowing', thinking, ['*.example.org']);
const closed = await open('closed', thinking, []);
const mindless = await open('mindless', workerOf([]), ['*.example.org']);
const members = [allowing, closed, mindless];
test.after(async () => {
  for (const member of members) await member.runner.close();
  await server.close();
  await world.remove();
});

const app = { name: 'app', version: '1.0.0', dependencies: { dep: 'file:dep' } };
const repository = world.repository();
const base = await repository.commit({
  '.npmrc': 'install-links=true\n',
  'package.json': JSON.stringify(app),
  'package-lock.json': JSON.stringify({
    ...app,
    lockfileVersion: 3,
    requires: true,
    packages: { '': app, 'node_modules/dep': { version: '1.2.3', resolved: 'file:dep' } },
  }),
  'dep/package.json': JSON.stringify({ name: 'dep', version: '1.2.3', main: 'index.js' }),
  'dep/index.js': 'module.exports = "Hello";',
  'greet.js': 'console.log("Helo");\n',
});

const call = (name: string, args: Record<string, unknown>): Step => ({ do: 'call', name, arguments: args });
const answers: Step[][] = [
  [
    call('write', { path: 'greet.js', content: 'console.log(require("dep"));\n' }),
    call('run', { command: 'node greet.js && touch node_modules/mine' }),
  ],
  [call('finish', { summary: 'It greets by dep.' })],
];

async function pursued(member: Member, checks = ['[ "$(node greet.js)" = Hello ]']) {
  const asked: ScriptedBody[] = [];
  server.script = (body) => {
    asked.push(body);
    return answers[Math.min(asked.length, answers.length) - 1]!;
  };
  const code = { goal: 'greet.js is to say what dep says.', heals: 0 };
  const assignment = await world.assignment({ kind: 'code', code, checks }, { repository, base });
  const { result, log } = await member.run(assignment);
  return { result, log, asked };
}

it('a goal has what the lock file asks for where the owner allows the registry: model, checks, once', async () => {
  const first = await pursued(allowing);
  assert.is(first.result.outcome, 'succeeded', first.log);
  assert.match(first.log, /prepare: npm ci[\s\S]*added 1 package[\s\S]*check 1 of 1/);
  const told = first.asked[1]!.messages.map(({ content }) => content).join('\n');
  assert.match(told, /Hello[\s\S]*Read-only file system/);
  const second = await pursued(allowing);
  assert.is(second.result.outcome, 'succeeded', second.log);
  assert.match(second.log, /is here already/);
});

it('where the owner allows nothing a goal goes on without, and the log says what to allow', async () => {
  const { result, log } = await pursued(closed, ['grep -q dep greet.js']);
  assert.is(result.outcome, 'succeeded', log);
  assert.match(log, /prepare: nothing\. `npm ci .*"hosts": \[HOST\]/);
});

it('where no model is nothing is prepared', async () => {
  const { result, log } = await pursued(mindless);
  assert.equal([result.reason, result.fault], ['environment', 'machine']);
  assert.not.match(log, /prepare: npm/);
  const kept = await readdir(join(world.folder, 'mindless', 'environments')).catch(() => []);
  assert.equal(
    kept.filter((name) => name !== '.runtime'),
    [],
  );
});

test.run();
