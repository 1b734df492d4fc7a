import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type HubCommand, hubGrammar, parseHub } from '../../../hub/cli/command.ts';
import { nodeGrammar, parseNode } from '../../../node/cli/command.ts';
import type { Parsed } from '../../../node/cli/parse.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';

const parse = (...args: string[]): Parsed<HubCommand> => parseHub(args, '9.9.9');

function commandOf(...args: string[]): HubCommand {
  const parsed = parse(...args);
  if (parsed.kind !== 'command') throw new Error(`a text: ${parsed.text}`);
  return parsed.command;
}

function refusal(...args: string[]): SuperfleetError {
  try {
    parse(...args);
  } catch (thrown) {
    assert.instance(thrown, SuperfleetError, String(thrown));
    return thrown as SuperfleetError;
  }
  throw new Error(`accepted: ${args.join(' ')}`);
}

const textOf = (...args: string[]): string => {
  const parsed = parse(...args);
  if (parsed.kind !== 'text') throw new Error('no text');
  return parsed.text;
};

test('every command of the contract is understood', () => {
  const lines: [string, string][] = [
    ['init --name home --owner ann --port 0 --recovery-key k', 'init'],
    ['start --detach --port 4701 --user fleet --accept-loss --recovery-key k', 'start'],
    ['stop', 'stop'],
    ['status --json', 'status'],
    ['invite --replace lab-07 --expires 1h', 'invite'],
    ['invite --uses 3 --expires 2h --role worker --role replica --label gpu=yes --owner ann', 'invite'],
    ['pause', 'pause'],
    ['pause --drain', 'pause'],
    ['capacity show', 'capacity show'],
    ['capacity set --ring 100 --elastic 400', 'capacity set'],
    ['policy default', 'policy default'],
    ['policy default idle,hours=18:00-08:00', 'policy default'],
    ['resume', 'resume'],
    ['node list', 'node list'],
    ['node describe m1', 'node describe'],
    ['node approve 123-456-789 --name m1', 'node approve'],
    ['node reject 123456789', 'node reject'],
    ['node drain m1', 'node drain'],
    ['node eligible m1', 'node eligible'],
    ['node rename debian-2 lab-07', 'node rename'],
    ['node revoke m1 --reason lost', 'node revoke'],
    ['task run -- true', 'task run'],
    ['task submit nightly.yaml --wait', 'task submit'],
    ['task list --state queued,running --limit 10', 'task list'],
    ['task describe abcdefghijkl', 'task describe'],
    ['task logs -f abcdefghijkl', 'task logs'],
    ['task stop abcdefghijkl', 'task stop'],
    ['task answer abcdefghijkl yes', 'task answer'],
    ['memory list --repo . --limit 5 --cursor 9', 'memory list'],
    ['memory show n1042', 'memory show'],
    ['memory search words', 'memory search'],
    ['memory note tabs --no-repo --topic style', 'memory note'],
    ['memory forget abcdefghijkl', 'memory forget'],
    ['task continue abcdefghijkl', 'task continue'],
    ['task continue abcdefghijkl go --wait', 'task continue'],
    ['task rerun abcdefghijkl --wait', 'task rerun'],
    ['task history abcdefghijkl', 'task history'],
    ['task why abcdefghijkl', 'task why'],
    ['task diff abcdefghijkl', 'task diff'],
    ['task apply abcdefghijkl --cherry-pick', 'task apply'],
    ['task get abcdefghijkl --output d --force', 'task get'],
    ['receipt show abcdefghijkl', 'receipt show'],
    [`receipt verify r.json --mesh ${'a'.repeat(64)}`, 'receipt verify'],
    ['ledger verify', 'ledger verify'],
    ['ledger tail --from 0 -f', 'ledger tail'],
    ['ledger export --output f', 'ledger export'],
    ['ledger prove abcdefghijkl --output f', 'ledger prove'],
    ['ledger prove 0', 'ledger prove'],
    ['ledger prove --since f', 'ledger prove'],
    ['proof verify f --since g', 'proof verify'],
    ['ledger scrub', 'ledger scrub'],
    ['backup f.tar --with-secrets --without-blobs', 'backup'],
    ['restore f.tar --dir d', 'restore'],
    ['fork --dir d --name lab', 'fork'],
    [`ledger import f --mesh ${'a'.repeat(64)}`, 'ledger import'],
    ['ledger repair --from f --accept-loss', 'ledger repair'],
    ['secret set TOKEN', 'secret set'],
    ['secret list', 'secret list'],
    ['secret remove TOKEN', 'secret remove'],
  ];
  for (const [line, verb] of lines) assert.is(commandOf(...line.split(' ')).verb, verb, line);
});

test('task run gathers every flag into one object', () => {
  const line =
    'task run --repo r --ref main --check a --check b --check-file t/* --label os=linux --label gpu= --model qwen:7b --tool node>=20 --on m1 --timeout 5m ' +
    '--check-timeout 30s --retries 2 --env A=b=c --env B= --secret S --artifact d/** --memory 2GiB --processes 9 ' +
    '--disk 1GiB --require-verified --follow --output o --force --correlation ci-1 -- npm run x -- --json';
  assert.equal(commandOf(...line.split(' ')), {
    verb: 'task run',
    wishes: {
      argv: ['npm', 'run', 'x', '--', '--json'],
      checks: ['a', 'b'],
      checkFiles: ['t/*'],
      labels: { os: 'linux', gpu: '' },
      model: 'qwen:7b',
      tools: { node: '>=20' },
      on: 'm1',
      timeoutMs: 300_000,
      checkTimeoutMs: 30_000,
      retries: 2,
      env: { A: 'b=c', B: '' },
      secrets: ['S'],
      artifacts: ['d/**'],
      memoryBytes: 2 * 1024 ** 3,
      processes: 9,
      workspaceBytes: 1024 ** 3,
      requireVerified: true,
    },
    ref: 'main',
    includeDirty: false,
    wait: true,
    follow: true,
    correlation: 'ci-1',
    matrix: [],
    schedule: null,
    once: false,
    allowWaiting: false,
    dryRun: false,
    repo: 'r',
    output: 'o',
    force: true,
  });
});

test('task code gathers the goal and how it is pursued; what is not said is the founder’s to fill in', () => {
  const plain = commandOf('task', 'code', 'make it green', '--check', 'npm test');
  assert.is(plain.verb, 'task code');
  assert.equal(plain.verb === 'task code' && [plain.wishes.code, plain.wishes.checks], [
    { goal: 'make it green' },
    ['npm test'],
  ]);
  const line = '--persona lucas --turns 7 --tokens 9000 --heals 0 --single-turn --model qwen:7b';
  const told = commandOf('task', 'code', ' a b ', ...line.split(' '));
  assert.equal(told.verb === 'task code' && told.wishes.code, {
    goal: 'a b',
    persona: 'lucas',
    turns: 7,
    tokens: 9000,
    heals: 0,
    mode: 'single',
  });
  for (const bad of [
    [' '],
    ['x'.repeat(8193)],
    ['x', '--persona', '../x'],
    ['x', '--turns', '0'],
    ['x', '--', 'y'],
  ]) {
    assert.throws(
      () => commandOf('task', 'code', ...bad),
      (error: SuperfleetError) => error.code === 'SF_USAGE',
    );
  }
});

test('what follows -- is argv, whatever it looks like', () => {
  fc.assert(
    fc.property(fc.array(fc.string(), { minLength: 1 }), (argv) => {
      const command = commandOf('task', 'run', '--', ...argv);
      assert.equal(command.verb === 'task run' ? command.wishes.argv : null, argv);
    }),
  );
});

test('--dir and --json stand before or after the command', () => {
  for (const args of [
    ['--dir', '/d', '--json', 'task', 'list'],
    ['task', 'list', '--dir', '/d', '--json'],
    ['--json', 'task', 'list', '--dir=/d'],
  ]) {
    const parsed = parse(...args);
    assert.equal(parsed.kind === 'command' ? parsed.global : null, { dir: '/d', json: true });
  }
});

test('wrong usage says what was expected and what came, exit 2', () => {
  const cases: [string[], RegExp, string | null][] = [
    [['status', '--colour'], /--json/, '--colour'],
    [['statsu'], /status/, 'statsu'],
    [['task', 'rum'], /run/, 'rum'],
    [['task'], /run, code, submit, list/, 'nothing'],
    [[], /init, start/, 'nothing'],
    [['node', 'approve'], /<code>/, 'nothing'],
    [['task', 'run', '--ref'], /--ref/, 'no value'],
    [['task', 'run', 'true'], /-- COMMAND/, 'true'],
    [['task', 'run'], /-- COMMAND/, 'no --'],
    [['task', 'run', '--'], /-- COMMAND/, 'nothing behind --'],
    [['task', 'run', '--no-repo', '--ref', 'x', '--', 'true'], /one of them/, 'both'],
    [['task', 'run', '--timeout', '5 minutes', '--', 'true'], /5m/, '5 minutes'],
    [['task', 'run', '--timeout', '0s', '--', 'true'], /from 1ms/, '0s'],
    [['task', 'run', '--memory', '2GB', '--', 'true'], /2GiB/, '2GB'],
    [['task', 'run', '--env', 'A', '--', 'true'], /KEY=VALUE/, 'A'],
    [['task', 'run', '--env', '1A=b', '--', 'true'], /identifier/, '1A=b'],
    [['task', 'run', '--label', 'A=b', '--', 'true'], /a–z/, 'A=b'],
    [['task', 'run', '--retries', '21', '--', 'true'], /0 to 20/, '21'],
    [['task', 'run', '--retries', '-1', '--', 'true'], /0 to 20/, '-1'],
    [['task', 'run', '--artifact', '../x', '--', 'true'], /without \.\./, '../x'],
    [['task', 'run', '--artifact', '/etc/passwd', '--', 'true'], /without \.\./, '/etc/passwd'],
    [['task', 'run', '--secret', 'A=b', '--', 'true'], /secret name/, 'A=b'],
    [['task', 'describe', 'xyz'], /12 characters/, 'xyz'],
    [['task', 'list', '--state', 'queued,happy'], /queued/, 'happy'],
    [['task', 'apply', 'abcdefghijkl', '--merge', '--checkout'], /one of --merge/, '--merge --checkout'],
    [['receipt', 'verify', 'f', '--mesh', 'abc'], /64 hex/, 'abc'],
    [['start', '--port', '70000'], /65535/, '70000'],
    [['invite', '--role', 'king'], /worker/, 'king'],
    [['status', 'extra'], /mesh-hub status/, 'extra'],
    [['status', '--', 'x'], /no --/, '-- x'],
  ];
  for (const [args, expected, got] of cases) {
    const error = refusal(...args);
    assert.is(error.code, 'SF_USAGE', args.join(' '));
    assert.is(error.exitCode, 2);
    assert.match(error.expected ?? '', expected, args.join(' '));
    assert.is(error.got, got, args.join(' '));
  }
});

test('no command line does anything but parse, print a text, or be wrong usage', () => {
  const words = fc.constantFrom(
    ...'task run list node approve --json --dir x --wait -- --env A=b --help secret set abcdefghijkl -f --label'.split(
      ' ',
    ),
  );
  fc.assert(
    fc.property(fc.array(fc.oneof(words, fc.string())), (args) => {
      try {
        parse(...args);
      } catch (thrown) {
        assert.instance(thrown, SuperfleetError, String(thrown));
        assert.is((thrown as SuperfleetError).code, 'SF_USAGE');
      }
    }),
    { numRuns: 300 },
  );
});

test('help is a text with the commands, and for each command with its options and an example', () => {
  assert.match(textOf('--help'), /mesh-hub init[\s\S]*Exit codes/);
  assert.match(textOf('task', '--help'), /run .*send a command/);
  const run = textOf('task', 'run', '--help');
  for (const part of ['--check <line>', '--no-repo', 'Examples:', '-- COMMAND'])
    assert.ok(run.includes(part), part);
  assert.is(textOf('--version').trim(), '9.9.9');
});

test('a command of the other program is named with where it is typed; none of the two is forgotten', () => {
  const [hub, node] = [hubGrammar('9.9.9').shape(), nodeGrammar('9.9.9').shape()];
  const firsts = (shape: typeof hub) => shape.children.map(({ name }) => name);
  const refusalOf = (parse: () => unknown): SuperfleetError => {
    try {
      parse();
    } catch (thrown) {
      return thrown as SuperfleetError;
    }
    throw new Error('accepted');
  };
  for (const word of firsts(hub).filter((name) => !firsts(node).includes(name))) {
    for (const args of [[word], ['--dir', '/x', word, '--json']]) {
      const error = refusalOf(() => parseNode(args, '9.9.9'));
      assert.is(error.hint, `mesh-hub ${word}, on the machine of the founder`);
    }
  }
  for (const word of firsts(node).filter((name) => !firsts(hub).includes(name))) {
    assert.match(refusal(word, 'x').hint ?? '', `mesh-node ${word}, on `);
  }
  const verbs = (shape: typeof hub) =>
    shape.children.find(({ name }) => name === 'ledger')!.children.map(({ name }) => name);
  const only = verbs(hub).filter((verb) => !verbs(node).includes(verb));
  assert.ok(only.includes('verify'));
  for (const verb of only) {
    const error = refusalOf(() => parseNode(['ledger', verb], '9.9.9'));
    assert.is(error.hint, `mesh-hub ledger ${verb}, on the machine of the founder`);
  }
  assert.not.match(refusal('nonsense').hint ?? '', 'mesh-node');
});

test('a flag in the place of a command is not called unknown: the commands are named', () => {
  const error = refusal('node', '--json');
  assert.is(error.message, 'mesh-hub node needs a command before --json');
  assert.match(error.expected ?? '', 'one of list, describe');
});

test('help is a word too; a task that is left out or mistyped leads to the list of tasks', () => {
  assert.is(textOf('help'), textOf('--help'));
  assert.is(textOf('help', 'task', 'run'), textOf('task', 'run', '--help'));
  assert.is(refusal('task', 'diff').hint, 'mesh-hub task list');
  assert.match(refusal('task', 'diff', '45wq').hint ?? '', 'task list');
});

test.run();
