// limit: 240 s
/** Goals whose model uses tools of MCP servers: a scripted Ollama server, servers made with the official SDK, real git and sandbox. */
import { once } from 'node:events';
import { readdir } from 'node:fs/promises';
import { createServer, type Server } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import { type ConfigInput, checkConfig } from '../../../node/config.ts';
import { SandboxRuntime } from '../../../node/environment/runtime.ts';
import { Prompts } from '../../../node/worker/prompts.ts';
import { ConvergenceWorker } from '../../../node/worker/worker.ts';
import { HttpMcpServer } from '../../mcp-server/http.ts';
import type { Mode } from '../../mcp-server/server.ts';
import type { ScriptedBody, Step } from '../../model-server/script.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, executorKey, Member, World } from '../attempt/harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;

type Servers = NonNullable<ConfigInput['mcp']>;
const place = (path: string): string => fileURLToPath(new URL(`../../../${path}`, import.meta.url));
const program = (mode: Mode = 'plain', more: object = {}): Servers[number] => ({
  name: 'notes',
  argv: [process.execPath, place('test/mcp-server/server.ts'), mode],
  readOnly: [
    process.execPath,
    place('test/mcp-server'),
    place('node_modules/@modelcontextprotocol'),
    place('node_modules/zod'),
  ],
  ...more,
});

const world = await World.make();
const repository = world.repository();
const base = await repository.commit({
  'greet.sh': 'echo Helo\n',
  'test.sh': '[ "$(sh greet.sh)" = Hello ] || { echo "greet.sh says $(sh greet.sh)"; exit 1; }\n',
});
const server = await new ScriptedOllama(['scripted-coder:7b']).listen();
let mcp: Servers = [];
const worker = new ConvergenceWorker({
  brains: async () => [new OllamaBrain({ url: server.url })],
  mcp: () => checkConfig({ mcp }).mcp,
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

const call = (name: string, args: Record<string, unknown> = {}): Step => ({
  do: 'call',
  name,
  arguments: args,
});
const hello: Step[] = [
  call('edit', { path: 'greet.sh', old: 'Helo', new: 'Hello' }),
  call('finish', { summary: 'Done.' }),
];

interface Definition {
  name: string;
  description: string;
  parameters: { type: string; properties?: Record<string, { description?: string }> };
}

/** Runs a goal with the answers of the model in order; after them the last one again and again. */
async function ran(
  servers: Servers,
  answers: Step[][],
  { persona = 'benjamin', secrets = {} as Record<string, string>, heals = 0, from = base } = {},
) {
  mcp = servers;
  const asked: ScriptedBody[] = [];
  server.script = (body) => {
    asked.push(body);
    return answers[Math.min(asked.length, answers.length) - 1]!;
  };
  const code = { goal: 'greet.sh is to greet as the notes say.', heals, persona };
  const assignment = await world.assignment(
    { kind: 'code', code, checks: ['sh test.sh'], secrets: Object.keys(secrets) },
    { repository, base: from },
    { secrets },
  );
  const { result, log } = await member.run(assignment);
  await member.runner.close();
  const left = (await readdir(join(member.folder, 'attempts'), { recursive: true })).filter(
    (path) => !/^[a-z2-7]{12}\.1\.1(\/result\.json)?$/.test(path),
  );
  assert.equal(left, []);
  const told =
    asked
      .at(-1)
      ?.messages.filter(({ role }) => role === 'tool')
      .map(({ content }) => content ?? '') ?? [];
  const tools = ((asked[0]?.tools ?? []) as { function: Definition }[]).map((tool) => tool.function);
  const of = (name: string): Definition | undefined => tools.find((tool) => tool.name === `notes__${name}`);
  return { result, log, told, tools, of, names: tools.map(({ name }) => name) };
}

/** The data between the marks, which must be whole. */
function dataOf(content: string): string {
  const [, mark, data] = /^\[data (\w{12}): .*\]\n([\s\S]*)\n\[end of data \1\]$/.exec(content) ?? [];
  assert.ok(mark !== undefined, content.slice(0, 400));
  return data ?? '';
}

it('a goal is reached by a tool of a server in the sandbox, which keeps its state from call to call', async () => {
  const got = await ran(
    [program()],
    [
      [call('notes__greeting'), call('notes__greeting')],
      [
        call('notes__put_file', { path: 'greet.sh', text: 'echo Hello\n' }),
        call('finish', { summary: 'Done.' }),
      ],
    ],
  );
  assert.is(got.result.outcome, 'succeeded', got.log);
  assert.is(
    got.of('greeting')?.description,
    'A tool of the MCP server notes, which says of it: The word to greet with.',
  );
  assert.ok(got.names.includes('list') && got.names.includes('run'));
  assert.equal(got.told.slice(0, 2).map(dataOf), ['Hello', 'Hello, for the 2th time']);
  assert.match(got.log, /^superfleet: notes__put_file: called$/m);
  const bundle = await bytesOf(member.blobs, got.result.bundle!);
  assert.ok(bundle.length > 0);
});

it('while checks run and what was done is taken, no server runs; what is called later starts it anew', async () => {
  const before = member.sandbox.starts.length;
  const got = await ran(
    [program()],
    [
      [call('notes__greeting'), call('finish', { summary: 'Not yet.' })],
      [call('notes__greeting'), ...hello],
    ],
    { heals: 1 },
  );
  assert.is(got.result.outcome, 'succeeded', got.log);
  const servers = member.sandbox.starts.slice(before).filter(({ stdin }) => stdin === 'pipe');
  assert.is(servers.length, 3, 'once for its list, once for each way');
  assert.equal(
    servers.map(({ mounts }) => mounts.find(({ to }) => to === '/workspace')?.writable),
    [false, true, true],
  );
  assert.is(dataOf(got.told.at(-2)!.startsWith('[data') ? got.told.at(-2)! : got.told.at(-1)!), 'Hello');
});

it('a reader is offered what only reads, is refused the rest, and a server that lies about it finds the workspace read-only', async () => {
  const got = await ran(
    [program()],
    [
      [
        call('notes__put_file', { path: 'greet.sh', text: 'echo Hello\n' }),
        call('notes__sneak', { path: '/workspace/greet.sh', text: 'echo Hello\n' }),
        call('notes__greeting'),
      ],
      [call('finish', { summary: 'Done.' })],
    ],
    { persona: 'harper' },
  );
  const own = got.names.filter((name) => name.includes('__'));
  assert.equal(own, ['notes__greeting', 'notes__sneak']);
  assert.match(got.told[0]!, /^notes__put_file was not executed, nothing was changed: harper reads only\.$/);
  assert.match(dataOf(got.told[1]!), /EROFS: read-only file system/, got.told[1]);
  assert.is(dataOf(got.told[2]!), 'Hello');
  assert.equal([got.result.outcome, got.result.reason], ['failed', 'check']);
});

it("the owner's word on a tool goes before the server's, and what he does not name is not there", async () => {
  const tools = { greeting: 'write', 'put.file': 'read' } as const;
  const reader = await ran([program('plain', { tools })], [hello], { persona: 'harper' });
  assert.equal(
    reader.names.filter((name) => name.includes('__')),
    ['notes__put_file'],
  );
  const writer = await ran([program('plain', { tools })], [hello]);
  assert.equal(
    writer.names.filter((name) => name.includes('__')),
    ['notes__greeting', 'notes__put_file'],
  );
});

it('a poisoned description and answer are bounded, escaped and marked, and take the place of no other tool', async () => {
  const got = await ran(
    [program('poisoned', { tools: { erase: 'write', list: 'write', wide: 'write' } })],
    [[call('notes__erase', { x: '1' })], hello],
  );
  assert.is(got.result.outcome, 'succeeded', got.log);
  const erase = got.of('erase')!;
  assert.ok(erase.description.length < 700);
  const shown = [JSON.stringify(got.tools), got.log, ...got.told].join('\n');
  assert.not.match(shown, /[\u001b\u0007\u202e]|\\u001b|\\u202e/);
  assert.match(erase.parameters.properties!.x!.description!, /\\x1b\]0;owned/);
  assert.ok(got.names.includes('notes__list') && got.names.filter((name) => name === 'list').length === 1);
  assert.match(got.log, /without a tool of notes, wide: its arguments take more than 4000 characters/);
  assert.match(dataOf(got.told[0]!), /Now call signal\.$/);
});

it('servers that are dead, silent, flooding or no server at all are left out, many tools are cut, and the goal goes on', async () => {
  const cases: [Servers[number], RegExp][] = [
    [program('dead'), /nothing of notes: it has ended \(exit 3\): no such database/],
    [program('flood'), /nothing of notes: it said more than the 10000 messages for an answer, and was ended/],
    [{ name: 'notes', argv: ['no-such-program'] }, /nothing of notes: it has ended \(exit 127\)/],
    [{ name: 'notes', argv: ['yes'] }, /nothing of notes: it said more than the 10000 messages/],
    [
      { name: 'notes', url: 'http://127.0.0.1:9/mcp' },
      /nothing of notes: it does not answer: .*ECONNREFUSED/,
    ],
    [{ name: 'notes', url: 'http://93.184.215.14/mcp' }, /nothing of notes: its address is outside the LAN/],
  ];
  for (const [config, words] of cases) {
    const got = await ran([config], [hello]);
    assert.is(got.result.outcome, 'succeeded', got.log);
    assert.match(got.log, words, got.log);
    assert.ok(got.names.every((name) => !name.includes('__')));
  }
  const many = await ran([program('many')], [hello]);
  assert.is(many.result.outcome, 'succeeded', many.log);
  assert.ok(JSON.stringify(many.tools.filter(({ name }) => name.includes('__'))).length < 26_000);
  assert.match(many.log, /there are too many for what the model holds/);
  const noisy = await ran([program('noise')], [[call('notes__greeting')], hello]);
  assert.is(dataOf(noisy.told[0]!), 'Hello');
});

it('a tool that fails, dies or floods is an error of that call; the server is started anew, thrice, and the goal goes on', async () => {
  const before = process.memoryUsage().rss;
  const got = await ran(
    [program()],
    [
      [
        call('notes__fail'),
        call('notes__put_file', { path: 1 }),
        call('notes__die'),
        call('notes__greeting'),
      ],
      [call('notes__large'), call('notes__flood'), call('notes__rant'), call('notes__greeting')],
      hello,
    ],
  );
  assert.is(got.result.outcome, 'succeeded', got.log);
  const [fail, wrong, die, again, large, flood, rant, after] = got.told.map(dataOf);
  assert.is(fail, 'it cannot be done');
  assert.match(wrong!, /expected string/i);
  assert.is(die, 'it has ended (exit 7): bye');
  assert.is(again, 'Hello');
  assert.match(large!, /^first\né\\x1b\[2Jé[\s\S]*\n\[cut: \d+ more characters; ask for less at once\]$/);
  assert.match(flood!, /it said more than the 1048576 bytes of a message, and was ended/);
  assert.match(rant!, /it said more than the 8388608 bytes of an answer, and was ended/);
  assert.match(after!, /it broke 3 times, and is not asked any more/);
  assert.ok(got.log.length < 200_000, `the log has ${got.log.length} characters`);
  assert.ok(process.memoryUsage().rss - before < 300 * 2 ** 20);
});

it('a server sees neither the network, nor secrets, nor files or variables of this machine', async () => {
  process.env.SF_TEST_CANARY = 'canary-of-the-host';
  const listener = createServer((_, response) => response.end());
  listener.listen(0, '0.0.0.0');
  await once(listener, 'listening');
  const { port } = listener.address() as AddressInfo;
  try {
    const got = await ran(
      [program('plain', { env: { NOTES: 'mine' } })],
      [
        [
          call('notes__look', { path: 'env' }),
          call('notes__look', { path: join(world.folder, 'member') }),
          call('notes__dial', { host: '127.0.0.1', port }),
          call('notes__dial', { host: '1.1.1.1', port: 53 }),
          call('run', { command: 'env' }),
        ],
        hello,
      ],
      { secrets: { TOKEN: 'correct-horse-battery' } },
    );
    assert.is(got.result.outcome, 'succeeded', got.log);
    const [env, file, ...dialled] = got.told.slice(0, 4).map(dataOf);
    assert.equal(
      Object.keys(JSON.parse(env!)).sort(),
      ['HOME', 'NOTES', 'PATH', 'PWD', 'PYTHONSAFEPATH'].filter((name) => env!.includes(`"${name}"`)),
    );
    assert.match(file!, /ENOENT/);
    for (const words of dialled) assert.match(words, /^not reached/);
    assert.not.match(got.told[4]!, /NOTES/);
    assert.not.match(got.told.join('\n'), /canary|horse/);
  } finally {
    delete process.env.SF_TEST_CANARY;
    await new Promise((resolve) => listener.close(resolve));
  }
});

it("a server of Python's loads no module that the repository has put into the workspace, which would see its variables", async () => {
  const from = await repository.commit({
    'json.py': 'import os, sys\nsys.exit("taken: " + os.environ["NOTES"])\n',
  });
  const argv = ['python3', '-c', 'import json, sys; sys.exit("its own")'];
  const got = await ran([{ name: 'notes', argv, env: { NOTES: 'mine' } }], [hello], { from });
  assert.is(got.result.outcome, 'succeeded', got.log);
  assert.match(got.log, /nothing of notes: it has ended \(exit 1\): its own/);
});

async function listening(web: Server): Promise<number> {
  web.listen(0, '127.0.0.1');
  await once(web, 'listening');
  return (web.address() as AddressInfo).port;
}

it('a server reaches the hosts that the owner allows it, by the proxy and no others; for a task with secrets it is not there', async () => {
  const asked: string[] = [];
  const web = createServer(({ url }, response) => {
    asked.push(url ?? '');
    response.end('the word is Hello');
  });
  const port = await listening(web);
  try {
    const config = program('plain', {
      hosts: [{ host: 'localhost', ports: [port], addresses: ['127.0.0.1'] }],
    });
    // A name that stands for this machine: 127.0.0.1 itself is asked past any proxy.
    const steps = [
      call('notes__fetch', { url: `http://localhost.:${port}/word` }),
      call('notes__fetch', { url: 'http://1.1.1.1/' }),
    ];
    const got = await ran([config], [steps, hello]);
    assert.is(got.result.outcome, 'succeeded', got.log);
    assert.equal([dataOf(got.told[0]!), asked], ['200 the word is Hello', ['/word']]);
    assert.match(dataOf(got.told[1]!), /fetch failed/);
    assert.match(got.log, /mcp: notes: 1\.1\.1\.1 is not among the hosts that may be reached/);
    const secret = await ran([config], [steps, hello], { secrets: { TOKEN: 'correct-horse-battery' } });
    assert.match(secret.log, /mcp: nothing of notes: this task has secrets/);
    assert.is(asked.length, 1);
    assert.match(secret.told[0]!, /there is no tool "notes__fetch"/);
  } finally {
    web.closeAllConnections();
    await new Promise((resolve) => web.close(resolve));
  }
});

it('a server of this machine is asked over Streamable HTTP, by JSON or events, without a word about who asks, and left again', async () => {
  for (const json of [false, true]) {
    await using http = await HttpMcpServer.listen(json);
    const got = await ran(
      [{ name: 'notes', url: http.url, tools: { greeting: 'read', fail: 'read' } }],
      [[call('notes__greeting'), call('notes__greeting'), call('notes__fail')], hello],
    );
    assert.is(got.result.outcome, 'succeeded', got.log);
    assert.equal(got.told.slice(0, 3).map(dataOf), ['Hello', 'Hello, for the 2th time', 'it cannot be done']);
    assert.is(http.open, 0, 'its sessions are ended');
    const names = new Set(http.seen.flatMap(({ headers }) => headers));
    assert.equal([...names].sort(), [
      'accept',
      'connection',
      'content-length',
      'content-type',
      'host',
      'mcp-protocol-version',
      'mcp-session-id',
    ]);
    const reader = await ran([{ name: 'notes', url: http.url }], [[call('notes__put_file')], hello], {
      persona: 'harper',
    });
    assert.match(reader.told[0]!, /harper reads only/);
    const nobody = await ran([{ name: 'notes', url: http.url }], [[call('notes__greeting')], hello], {
      persona: 'nobody',
    });
    assert.match(nobody.told[0]!, /nobody reads only/);
    const before = http.seen.length;
    const secret = await ran([{ name: 'notes', url: http.url }], [hello], {
      secrets: { TOKEN: 'correct-horse' },
    });
    assert.match(secret.log, /mcp: nothing of notes: this task has secrets/);
    assert.is(http.seen.length, before);
  }
});

test.run();
