// limit: 120 s
/** Goals pursued by a scripted Ollama server over real HTTP, with real git, the real sandbox and real tools. */
import { writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import type { Brain } from '../../../node/brain/types.ts';
import { Prompts } from '../../../node/worker/prompts.ts';
import { ConvergenceWorker } from '../../../node/worker/worker.ts';
import { acceptReceipt } from '../../../protocol/acceptance.ts';
import type { Receipt } from '../../../protocol/receipt.ts';
import type { Assignment, AttemptResult } from '../../../protocol/session.ts';
import type { CodeSpecInput } from '../../../protocol/task.ts';
import type { ScriptedBody, Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, executorKey, MESH, Member, World } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

const world = await World.make();
const repository = world.repository();
const base = await repository.commit({
  'greet.sh': 'echo Helo\n',
  // It leaves something behind each time, as test runners do.
  'test.sh':
    'echo ran >> leftover.txt\n[ "$(sh greet.sh)" = Hello ] || { echo "greet.sh says $(sh greet.sh)"; exit 1; }\n',
});
/** Its checks count their runs in a file that git ignores, and are red in those that they name. */
const shaky = world.repository('shaky');
const shakyBase = await shaky.commit({
  '.gitignore': 'runs\n',
  'flaky.sh':
    'n=$(cat runs 2>/dev/null || echo 0); echo $((n + 1)) >runs\ncase " $1 " in *" $n "*) exit 1;; esac\n',
});
const server = await new ScriptedOllama(['scripted-coder:7b']).listen();
const speeds = new Speeds();
const ollama = new OllamaBrain({ url: server.url });
/** The same model, as if another machine lent it. */
const lentBy = (brain: Brain): Brain => ({
  name: 'mesh',
  server: 'the mesh',
  place: 'mesh',
  models: (signal) => brain.models(signal),
  chat: (request, signal) => brain.chat(request, signal),
});
const source = { lent: false };
const worker = new ConvergenceWorker({
  brains: async () => [source.lent ? lentBy(ollama) : ollama],
  speeds,
  prompts: new Prompts(null),
});
const member = await Member.open(join(world.folder, 'member'), world.founder, 'spare-1', executorKey, worker);
test.after(async () => {
  await member.runner.close();
  await server.close();
  await world.remove();
});

const call = (name: string, args: Record<string, unknown>): Step => ({ do: 'call', name, arguments: args });
const edit = (from: string, to: string): Step => call('edit', { path: 'greet.sh', old: from, new: to });
const finish = call('finish', { summary: 'The greeting is spelled right.' });

interface Ran {
  result: AttemptResult;
  receipt: Receipt | null;
  log: string;
  phases: string[];
  asked: ScriptedBody[];
  /** Of the branch against the base; empty where nothing came back. */
  diff: string;
}

let runs = 0;

/** Runs a goal with the answers of the model in order; after them the last one again and again. */
async function ran(
  answers: Step[][],
  code: Partial<CodeSpecInput['code']> = {},
  checks = ['sh test.sh'],
  more: Partial<Assignment> = {},
  source = { repository, base },
): Promise<Ran> {
  runs += 1;
  const asked: ScriptedBody[] = [];
  server.script = (body) => {
    asked.push(body);
    return answers[Math.min(asked.length, answers.length) - 1]!;
  };
  const goal = { goal: 'greet.sh is to say Hello.', ...code };
  const assignment = await world.assignment({ kind: 'code', code: goal, checks }, source, more);
  const { result, log, seen } = await member.run(assignment);
  const receipt =
    result.envelope === null
      ? null
      : acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result }).facts;
  let diff = '';
  if (result.bundle !== null) {
    const path = join(world.folder, `result-${runs}.bundle`);
    await writeFile(path, await bytesOf(member.blobs, result.bundle));
    const branch = `refs/heads/mesh/${assignment.task}`;
    source.repository.git('fetch', '-q', path, `${branch}:${branch}`);
    diff = source.repository.git('diff', '--name-status', source.base, branch);
  }
  return { result, receipt, log, phases: seen.phases, asked, diff };
}

const said = (body: ScriptedBody): string => body.messages.map(({ content }) => content).join('\n');

it('what kind of work it is decides how it is put to the model', async () => {
  const answers = [[edit('Helo', 'Hello')], [finish]];
  const put = async (tags?: string[]) => {
    const { result, asked } = await ran(answers, tags === undefined ? {} : { tags });
    assert.is(result.outcome, 'succeeded');
    const { options, messages } = asked[0] as unknown as {
      options: { num_predict: number };
      messages: { content: string }[];
    };
    return { tokens: options.num_predict, text: messages[0]!.content };
  };
  const [ordinary, docs, complex] = [await put(), await put(['docs']), await put(['complex'])];
  assert.equal([ordinary.tokens, docs.tokens, complex.tokens], [8_192, 4_096, 8_192]);
  assert.ok(docs.text.length * 3 < ordinary.text.length);
  assert.ok(complex.text.startsWith(ordinary.text) && complex.text.length > ordinary.text.length);
});

it('a goal comes back as a commit with the checks green, and the receipt says which model did what', async () => {
  const { result, receipt, log, phases, asked, diff } = await ran([
    [call('list', {}), call('read', { path: 'greet.sh' })],
    [{ do: 'text', text: 'A typo.' }, edit('Helo', 'Hello'), call('run', { command: 'sh greet.sh' })],
    [finish],
  ]);
  assert.equal([result.outcome, result.reason, result.detail], ['succeeded', null, null]);
  assert.is(diff, 'M\tgreet.sh');
  assert.equal(phases, ['fetch', 'prepare', 'run', 'check', 'converge']);
  const { work, exitCode, checks } = receipt!;
  const { promptTokens, generatedTokens, ...rest } = work!;
  assert.ok(promptTokens! > 0 && generatedTokens! > 0);
  assert.equal(rest, {
    brain: 'ollama',
    model: 'scripted-coder:7b',
    turns: 3,
    calls: 5,
    heals: 0,
    lowConfidence: false,
    files: 1,
    lesson: {
      files: ['greet.sh'],
      failures: [{ check: 0, before: true, pattern: 'greet.sh says Helo' }],
    },
  });
  assert.equal([exitCode, checks], [null, [{ line: 'sh test.sh', exitCode: 0 }]]);
  // What was red before is what it is told first.
  assert.match(said(asked[0]!), /is red \(exit 1\)[\s\S]*greet\.sh says Helo/);
  assert.match(said(asked[1]!), /echo Helo/);
  assert.match(log, /turn 2, scripted-coder:7b, \d+ \+ \d+ tokens, .*: calls edit, run/);
  assert.match(log, /the model is done: The greeting is spelled right\./);
  assert.is.not(speeds.of(server.url, 'scripted-coder:7b'), null);
});

it('a red check is shown to the model, which mends it; what changed is measured by git, not told by it', async () => {
  const { result, receipt, asked, diff } = await ran([
    [edit('Helo', 'Hallo'), call('write', { path: 'notes.txt', content: 'mine\n' })],
    [finish],
    [edit('Hallo', 'Hello'), call('run', { command: 'rm notes.txt' })],
    [finish],
  ]);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.equal([receipt?.work?.heals, receipt?.work?.files, receipt?.work?.turns], [1, 1, 4]);
  assert.is(diff, 'M\tgreet.sh');
  assert.match(said(asked[2]!), /With your changes the check `sh test.sh` is red[\s\S]*greet\.sh says Hallo/);
});

it('after the last mending it goes another way, from the base; that fails too: check', async () => {
  const { result, receipt, asked, log } = await ran(
    [[edit('Helo', 'Hallo'), finish], [edit('Hallo', 'Hullo'), finish], [finish]],
    {
      heals: 1,
    },
  );
  assert.equal([result.outcome, result.reason, result.commit], ['failed', 'check', null]);
  assert.match(log, /another way, from the base/);
  const other = asked.findIndex((body) =>
    said(body).includes('An attempt before this one did not reach the goal'),
  );
  assert.ok(other > 0);
  assert.not.match(said(asked[other]!), /With your changes/);
  assert.is(receipt?.work?.heals, 3);
});

it('a change that edits the checks is flagged and not trusted', async () => {
  const cheat = call('write', { path: 'test.sh', content: 'exit 0\n' });
  const { result, log } = await ran([[cheat, finish]], { heals: 0 });
  assert.equal([result.outcome, result.reason], ['failed', 'check']);
  assert.match(log, /changed by the task, and put back as in the base for the checks: test\.sh/);
});

it('a reader changes nothing: its edits are refused, one line says so, and no file is counted', async () => {
  const { result, receipt, log, diff } = await ran(
    [[edit('Helo', 'Hello'), call('run', { command: 'rm greet.sh' })], [finish]],
    {
      persona: 'harper',
      heals: 0,
    },
  );
  assert.equal([result.reason, receipt?.work?.files, diff], ['check', 0, '']);
  assert.is(log.match(/harper reads only/g)?.length, 1);
});

it('a model that is stopped by a bound has reached the goal where the checks are green, and has not where they are red', async () => {
  const green = await ran([[edit('Helo', 'Hello')]], { turns: 2 });
  assert.is(green.result.outcome, 'succeeded', green.result.detail ?? '');
  assert.match(green.log, /the model was stopped \(turns\)/);
  const red = await ran([[call('read', { path: 'greet.sh' })]], { turns: 2 });
  assert.equal([red.result.outcome, red.result.reason], ['failed', 'budget']);
});

it('every way a model does not get there is a failure of its own reason', async () => {
  const asks = await ran([[call('signal', { signal: 'clarification_needed', text: 'Which greeting?' })]]);
  assert.equal([asks.result.reason, asks.result.detail], ['signal', 'clarification_needed: Which greeting?']);
  assert.equal(asks.receipt?.work?.signal, { kind: 'clarification_needed', text: 'Which greeting?' });
  const talks = await ran([[{ do: 'text', text: 'I would mend greet.sh.' }]]);
  assert.equal([talks.result.reason, talks.result.fault], ['task', 'task']);
  assert.match(talks.result.detail!, /stalled/);
  const gone = await ran([[{ do: 'refuse', status: 500, message: 'llama runner process has terminated' }]]);
  assert.equal([gone.result.reason, gone.result.fault], ['environment', 'machine']);
  assert.is(gone.receipt?.work ?? null, null);
});

it('what a model did before it goes no further comes back signed, and a second attempt goes on from it on the same base', async () => {
  const half = await ran([
    [
      call('write', { path: 'part.txt', text: 'half' }),
      call('write', { path: 'part.txt', content: 'half\n' }),
    ],
    [call('signal', { signal: 'partial_completion', text: 'The greeting is left.' })],
  ]);
  const { result, receipt } = half;
  assert.equal([result.outcome, result.reason, result.fault], ['failed', 'signal', 'task']);
  assert.is(half.diff, 'A\tpart.txt');
  assert.equal([receipt?.commit, receipt?.work?.files, receipt?.outcome], [result.commit, 1, 'failed']);
  const { task, commit, bundle } = result;
  const start = { task, commit: commit!, bundle: bundle!, left: 'The greeting is left.' };
  const whole = await ran(
    [[call('read', { path: 'part.txt' })], [edit('Helo', 'Hello')], [finish]],
    {},
    ['sh test.sh', 'test -f part.txt'],
    { start },
  );
  assert.equal([whole.result.outcome, whole.result.detail], ['succeeded', null]);
  // One commit on the base that the first one had: both parts are in it, and both are judged.
  assert.is(whole.diff, 'M\tgreet.sh\nA\tpart.txt');
  assert.is(repository.git('rev-parse', `refs/heads/mesh/${whole.result.task}^`), base);
  assert.match(said(whole.asked[0]!), /A part of it is done[\s\S]*The greeting is left\./);
  assert.match(said(whole.asked[0]!), /`test -f part.txt` is green/);
  assert.match(said(whole.asked[1]!), /half/);
});

it('another way of a continued goal begins where the first began; a start that was not signed so is refused', async () => {
  const half = await ran([
    [call('write', { path: 'part.txt', content: 'half\n' })],
    [call('signal', { signal: 'partial_completion', text: 'left' })],
  ]);
  const { task, commit, bundle } = half.result;
  const start = { task, commit: commit!, bundle: bundle!, left: 'left' };
  const other = await ran(
    [
      [call('write', { path: 'wrong.txt', content: 'x' }), finish],
      [finish],
      [edit('Helo', 'Hello')],
      [finish],
    ],
    { heals: 1 },
    ['sh test.sh', 'test -f part.txt', 'test ! -f wrong.txt'],
    { start },
  );
  assert.equal([other.result.outcome, other.diff], ['succeeded', 'M\tgreet.sh\nA\tpart.txt']);
  const forged = { ...start, bundle: { ...bundle!, sha256: 'ab'.repeat(32) } };
  const refused = await ran([[finish]], {}, [], { start: forged });
  assert.equal([refused.result.reason, refused.result.fault], ['refused', 'task']);
  assert.match(refused.result.detail!, new RegExp(`what task ${task} left cannot be gone on from: .*signed`));
  const nothing = await ran([[call('signal', { signal: 'partial_completion', text: 'all of it' })]]);
  assert.equal([nothing.result.reason, nothing.result.commit], ['signal', null]);
});

it('a check that was green before the work is run again where it is red: with both answers it is flaky, and said to be in the receipt', async () => {
  const source = { repository: shaky, base: shakyBase };
  const writes = (path: string): Step => call('write', { path, content: 'x\n' });
  const on = (checks: string[], answers: Step[][]) => ran(answers, { heals: 1 }, checks, {}, source);

  const once = await on(['true', 'sh flaky.sh 1'], [[writes('a.txt'), finish]]);
  assert.equal([once.result.outcome, once.diff, once.asked.length], ['succeeded', 'A\ta.txt', 1]);
  assert.equal([once.receipt?.checksFlaky, once.receipt?.work?.heals], [[1], 0]);
  assert.match(once.log, /check 2 of 2 is flaky: red, then green on the same files/);

  const onBase = await on(['sh flaky.sh "1 2 3"'], [[writes('a.txt'), finish]]);
  assert.equal([onBase.result.reason, onBase.result.fault, onBase.asked.length], ['check', 'task', 1]);
  assert.match(
    onBase.result.detail!,
    /check 1 of 1 is flaky: green on the base before the work, and red there/,
  );
  assert.equal(onBase.receipt?.checksFlaky, [0]);

  // Red by the change: three runs say so, and the model is shown it, once.
  const bad = 'sh flaky.sh none && test ! -f bad.txt';
  const mended = await on(
    [bad],
    [[writes('bad.txt'), finish], [call('run', { command: 'rm bad.txt' }), writes('good.txt')], [finish]],
  );
  assert.equal([mended.result.outcome, mended.diff], ['succeeded', 'A\tgood.txt']);
  assert.equal([mended.receipt?.checksFlaky, mended.receipt?.work?.heals], [undefined, 1]);
});

it('no model, no answer: this machine says why, and nothing is made up', async () => {
  server.models.splice(0);
  try {
    const { result } = await ran([[finish]]);
    assert.equal([result.reason, result.fault], ['environment', 'machine']);
    assert.match(result.detail!, /no model on spare-1 can work on this/);
  } finally {
    server.models.push({ name: 'scripted-coder:7b' });
  }
});

it('a model that others lend and that goes away costs the machine nothing: it may have the goal again', async () => {
  source.lent = true;
  try {
    const done = await ran([[edit('Helo', 'Hello')], [finish]]);
    assert.equal([done.result.outcome, done.receipt?.work?.brain], ['succeeded', 'mesh']);
    const away = await ran([
      [edit('Helo', 'Hello')],
      [{ do: 'refuse', status: 404, message: 'model not found' }],
    ]);
    assert.equal([away.result.reason, away.result.fault], ['lost', 'machine']);
    assert.equal(away.result.failedModels, ['scripted-coder:7b'], 'the next attempt asks others first');
    server.models.splice(0);
    const none = await ran([[finish]]);
    assert.equal([none.result.reason, none.result.fault], ['lost', 'machine']);
    assert.match(none.result.detail!, /no machine that lends spare-1 a model answers/);
  } finally {
    source.lent = false;
    server.models.splice(0, server.models.length, { name: 'scripted-coder:7b' });
  }
});

it('a model that calls no tools is asked for them by the form of its answer', async () => {
  server.models[0]!.capabilities = ['completion'];
  try {
    const answer = (tool: string, args: object): Step[] => [
      { do: 'text', text: JSON.stringify({ tool, arguments: args }) },
    ];
    const { result } = await ran([
      answer('edit', { path: 'greet.sh', old: 'Helo', new: 'Hello' }),
      answer('finish', { summary: 'x' }),
    ]);
    assert.is(result.outcome, 'succeeded', result.detail ?? '');
  } finally {
    delete server.models[0]!.capabilities;
  }
});

it('one answer is enough where one was asked for', async () => {
  const { result, receipt } = await ran([[edit('Helo', 'Hello')]], { mode: 'single' });
  assert.equal([result.outcome, receipt?.work?.turns], ['succeeded', 1]);
});

it('a model that let an earlier attempt down, or rejected the task, is asked last', async () => {
  server.models.push({ name: 'scripted-coder:14b' });
  try {
    for (const [model, other] of [
      ['scripted-coder:7b', 'scripted-coder:14b'],
      ['scripted-coder:14b', 'scripted-coder:7b'],
    ] as const) {
      for (const more of [{ failedModels: [model] }, { rejectedBy: [model] }]) {
        const { asked } = await ran([[edit('Helo', 'Hello')], [finish]], {}, ['sh test.sh'], more);
        assert.is((asked[0] as unknown as { model: string }).model, other);
      }
    }
  } finally {
    server.models.splice(0, server.models.length, { name: 'scripted-coder:7b' });
  }
});

test.run();
