// limit: 120 s
/**
 * Goals given to a coding agent in the sandbox. The agent is a script of a few lines of perl that asks its model over HTTP for the text
 * to put in a file, as an installed agent would; its model is a scripted server.
 */
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import { type AgentConfig, checkConfig } from '../../../node/config.ts';
import { SandboxRuntime } from '../../../node/environment/runtime.ts';
import { Prompts } from '../../../node/worker/prompts.ts';
import { ConvergenceWorker } from '../../../node/worker/worker.ts';
import { acceptReceipt } from '../../../protocol/acceptance.ts';
import type { CodeSpecInput } from '../../../protocol/task.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun, executorKey, MESH, Member, World } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

/** Asks the model with the goal, and writes what it answers into greet.sh. */
const AGENT = `use IO::Socket::INET; my ($url, $model, $goal) = @ARGV; $url =~ m{//([^/]+)};
my $s = IO::Socket::INET->new(PeerAddr => $1) or die "no model: $!";
$goal =~ s/([^ -~])/ /g; $goal =~ s/["\\\\]//g;
my $body = qq({"model":"$model","messages":[{"role":"user","content":"$goal"}]});
print $s "POST /api/chat HTTP/1.0\\r\\nHost: x\\r\\nContent-Length: " . length($body) . "\\r\\n\\r\\n$body";
my $text = join '', <$s>; die "refused: $text" unless $text =~ m{^HTTP/1.. 200};
my $said = join '', $text =~ /"content":"([^"]*)"/g;
open my $f, '>', 'greet.sh' or die "no file: $!"; print $f "$said\\n"; close $f;
open my $c, '<', "$ENV{HOME}/.agent/settings" or die; print <$c>;`;
const agent = (change: Partial<AgentConfig> = {}): AgentConfig[] =>
  checkConfig({
    agents: [
      {
        name: 'perl-agent',
        argv: ['perl', '-e', AGENT, '{url}', '{model}', '{goal}'],
        files: { '.agent/settings': 'model={model}\n' },
        ...change,
      },
    ],
  }).agents;

const world = await World.make();
const repository = world.repository();
const base = await repository.commit({
  'greet.sh': 'echo Helo\n',
  'test.sh': '[ "$(sh greet.sh)" = Hello ]\n',
});
const server = await new ScriptedOllama(['scripted-coder:7b', 'secret:70b']).listen();
let agents = agent();
const worker = new ConvergenceWorker({
  brains: async () => [new OllamaBrain({ url: server.url })],
  agents: () => agents,
  runtime: () => SandboxRuntime.open(join(world.folder, 'runtime')),
  speeds: new Speeds(),
  prompts: new Prompts(null),
});
const member = await Member.open(join(world.folder, 'member'), world.founder, 'spare-1', executorKey, worker);
test.after(async () => {
  await member.runner.close();
  await server.close();
  await world.remove();
});

async function ran(code: Partial<CodeSpecInput['code']> = {}, model = 'scripted-coder:7b') {
  const assignment = await world.assignment(
    {
      kind: 'code',
      code: { goal: 'greet.sh is to say Hello.', brain: 'perl-agent', ...code },
      checks: ['sh test.sh'],
      model,
    },
    { repository, base },
  );
  const { result, log } = await member.run(assignment);
  const receipt =
    result.envelope === null
      ? null
      : acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result }).facts;
  return { result, log, work: receipt?.work ?? null };
}

it('an agent pursues a goal with its model as the only address it reaches, and the receipt counts what went through', async () => {
  agents = agent();
  const asked: string[] = [];
  server.script = ({ messages }) => {
    asked.push(messages[0]!.content!);
    // At first wrong: it is shown the red check, and mends it.
    return [{ do: 'text', text: asked.length === 1 ? 'echo Hallo' : 'echo Hello' }];
  };
  const { result, log, work } = await ran();
  assert.is(result.outcome, 'succeeded', `${result.detail}\n${log}`);
  assert.equal(
    [work?.brain, work?.model, work?.turns, work?.heals, work?.files],
    ['perl-agent', 'scripted-coder:7b', 2, 1, 1],
  );
  assert.ok(work!.promptTokens! > 0 && work!.generatedTokens! > 0);
  assert.match(asked[0]!, /The goal:.*greet.sh is to say Hello/);
  assert.match(asked[1]!, /With your changes the check `sh test.sh` is red/);
  assert.match(log, /model=scripted-coder:7b/);
});

it('it asks no other model, reaches no network and no file of this machine', async () => {
  const probe = `my @seen;
use IO::Socket::INET; my ($url) = @ARGV;
for my $to ('${new URL(server.url).host}', '127.0.0.1:22', '1.1.1.1:53') {
  push @seen, $to if IO::Socket::INET->new(PeerAddr => $to, Timeout => 1);
}
push @seen, '/etc/shadow' if open my $f, '<', '/etc/shadow';
push @seen, 'member' if -e '${world.folder}';
my $s = IO::Socket::INET->new(PeerAddr => $url =~ s{.*//}{}r) or die;
my $body = '{"model":"secret:70b","messages":[]}';
print $s "POST /api/chat HTTP/1.0\\r\\nContent-Length: " . length($body) . "\\r\\n\\r\\n$body";
my $text = join '', <$s>; push @seen, 'the other model' if $text =~ m{ 200 };
print "seen: @seen.\\n"; exit 3;`;
  agents = agent({ argv: ['perl', '-e', probe, '{url}'] });
  const before = server.asked.filter(({ path }) => path === '/api/chat').length;
  const { result, log } = await ran({ heals: 0 });
  assert.match(log, /^seen: \.$/m);
  assert.is(server.to('/api/chat').length, before);
  assert.equal([result.outcome, result.reason], ['failed', 'task']);
  assert.match(result.detail!, /perl-agent exited with 3/);
});

it('what it may ask is bounded over all its ways, and the reason says so', async () => {
  agents = agent();
  server.script = () => [{ do: 'text', text: 'echo Hallo' }];
  for (const [bound, words] of [
    [{ turns: 1 }, /answers of this task are used up/],
    [{ tokens: 10 }, /tokens of this task are spent/],
  ] as const) {
    const before = server.to('/api/chat').length;
    const { result, work } = await ran({ ...bound, heals: 3 });
    assert.equal([result.reason, result.fault, work?.turns], ['budget', 'task', 1], result.detail ?? '');
    assert.match(result.detail!, words);
    assert.is(server.to('/api/chat').length, before + 1);
  }
});

it('one that only reads finds the workspace read-only', async () => {
  agents = agent();
  server.script = () => [{ do: 'text', text: 'echo Hello' }];
  const { result, log, work } = await ran({ persona: 'harper', heals: 0 });
  assert.match(log, /no file: Read-only file system/);
  assert.equal([result.reason, work?.files], ['task', 0]);
});

it('an agent that this machine does not have is no model that it has', async () => {
  const { result } = await ran({ brain: 'other' });
  assert.equal([result.reason, result.fault], ['environment', 'machine']);
  assert.match(result.detail!, /other was asked for/);
});

test.run();
