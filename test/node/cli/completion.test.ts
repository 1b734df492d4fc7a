// limit: 120 s
import { spawn } from 'node:child_process';
import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { dirname, join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hubGrammar } from '../../../hub/cli/command.ts';
import { socketPath } from '../../../node/api/socket.ts';
import { nodeGrammar } from '../../../node/cli/command.ts';
import { type Completion, joinedAtEquals, placeOf } from '../../../node/cli/completion.ts';
import { has, Screen } from '../../terminal.ts';

const ROOT = resolve(import.meta.dirname, '../../..');
const HUB = join(ROOT, 'scripts/mesh-hub');
const hub = hubGrammar('1').shape();

const at = (line: string): Completion => placeOf(hub, line.split(' ')).completion;
const words = (line: string): string[] => {
  const found = at(line);
  return found.kind === 'words' ? found.words.map(({ word }) => word) : [`<${found.kind}>`];
};

test('verbs, groups, flags and choices come from the grammar, for both programs', () => {
  assert.equal(words('ta'), ['task']);
  assert.equal(words('task re'), ['rerun']);
  assert.equal(words('task why --j'), ['--json']);
  assert.equal(words('task list --state de'), ['delivered']);
  assert.equal(words('task list --state queued,ru'), ['queued,running']);
  assert.equal(words('task list --state=queued,ru'), ['--state=queued,running']);
  assert.equal(words('start --log-level '), ['debug', 'info', 'warn', 'error']);
  assert.equal(words('invite --role re'), ['replica']);
  assert.equal(words('completion '), ['bash', 'zsh', 'fish']);
  for (const [shape, grammar] of [
    [hub, hubGrammar('1')],
    [nodeGrammar('1').shape(), nodeGrammar('1')],
  ] as const) {
    for (const command of grammar.commands('')) {
      const path = command.trim().split(' ');
      const last = placeOf(shape, path).completion;
      assert.ok(last.kind === 'words' && last.words.some(({ word }) => word === path.at(-1)), command);
      const flags = placeOf(shape, [...path, '--']).completion;
      const known = grammar.options(...path).sort();
      assert.equal(
        flags.kind === 'words' ? flags.words.map(({ word }) => word).sort() : null,
        [...known, '--help'].sort(),
        command,
      );
    }
  }
});

test('what only the process knows is asked for where the grammar names it; files, folders and commands are the shell’s', () => {
  const asked = (line: string): unknown => {
    const { completion, dir } = placeOf(hub, line.split(' '));
    return completion.kind === 'ask' ? [completion.what, completion.prefix, dir] : completion.kind;
  };
  assert.equal(asked('task why ab'), ['task', '', null]);
  assert.equal(asked('--dir /d node drain '), ['node', '', '/d']);
  assert.equal(asked('node approve '), ['code', '', null]);
  assert.equal(asked('task run --on '), ['node', '', null]);
  assert.equal(asked('task run --on=l'), ['node', '--on=', null]);
  assert.equal(asked('secret remove '), ['secret', '', null]);
  assert.is(asked('receipt verify '), 'files');
  assert.is(asked('task run --repo '), 'folders');
  assert.is(asked('task run --wait -- ma'), 'commands');
  assert.is(asked('task run --wait -- make te'), 'files');
  assert.equal(words('secret set '), []);
  assert.equal(words('status -- x'), []);
  assert.equal(words('tsak li'), [], 'a mistake is not completed');
  assert.equal(joinedAtEquals(['task', 'list', '--state', '=', 'qu']), ['task', 'list', '--state=qu']);
  assert.equal(joinedAtEquals(['task', 'list', '--state', '=']), ['task', 'list', '--state=']);
});

async function ask(
  dir: string,
  line: string,
  shell = 'bash',
): Promise<{ out: string; err: string; ms: number }> {
  const began = performance.now();
  const child = spawn(HUB, ['__complete', shell, ...line.split(' ')], {
    env: { ...process.env, MESH_HOME: dir },
    stdio: ['ignore', 'pipe', 'pipe'],
  });
  const said = { out: '', err: '' };
  child.stdout.on('data', (bytes) => (said.out += bytes));
  child.stderr.on('data', (bytes) => (said.err += bytes));
  const code = await new Promise((done) => child.once('close', done));
  assert.is(code, 0);
  return { ...said, ms: performance.now() - began };
}

test('no folder, no process, a process that hangs, nonsense: nothing is offered, nothing is said, soon', async () => {
  const root = mkdtempSync(join(tmpdir(), 'sf-complete-'));
  const hung = join(root, 'hung');
  mkdirSync(dirname(socketPath(hung)), { recursive: true, mode: 0o700 });
  let asked = 0;
  const server = createServer(() => {
    asked += 1;
  }).listen(socketPath(hung));
  try {
    for (const dir of [join(root, 'none'), root, hung, '/dev/null/x']) {
      const { out, err, ms } = await ask(dir, 'task why ');
      assert.is(err, '');
      assert.ok(out === 'words\n' || out === '', JSON.stringify(out));
      assert.ok(ms < 10_000, `${ms} ms`);
    }
    assert.is(asked, 1, 'the one that hangs was asked');
    const nonsense = await ask(root, 'x', 'powershell');
    assert.equal([nonsense.out, nonsense.err], ['', '']);
  } finally {
    server.close();
    rmSync(root, { recursive: true, force: true });
  }
});

const shells: [name: string, start: string, setup: string][] = [
  ['bash', `env PS1='$ ' bash --norc --noprofile -i`, 'eval "$(mesh-hub completion bash)"'],
  ['zsh', `env PS1='$ ' zsh -f -i`, 'eval "$(mesh-hub completion zsh)"'],
  ['fish', 'fish --no-config -i', 'mesh-hub completion fish | source'],
];
for (const [shell, start, setup] of shells) {
  const missing = ['tmux', shell].filter((program) => !has(program));
  if (missing.length > 0) {
    console.log(`skipped: completion in a real ${shell}: ${missing.join(', ')} not installed`);
    continue;
  }
  test(`a real ${shell} completes verbs, flags, choices and files at TAB`, async () => {
    const home = mkdtempSync(join(tmpdir(), 'sf-shell-'));
    mkdirSync(join(home, 'receipts-of-may'));
    const env = {
      HOME: home,
      // A shell writes its history when its terminal is gone, and a command its compiled modules.
      HISTFILE: '',
      NODE_DISABLE_COMPILE_CACHE: '1',
      MESH_HOME: join(home, 'mesh'),
      PATH: `${join(ROOT, 'scripts')}:${process.env.PATH}`,
    };
    const screen = await Screen.open({ cwd: home, env, shell: start, columns: 100, rows: 40 });
    try {
      await screen.type(`${setup}; echo read''y`);
      await screen.press('Enter');
      await screen.shows(/^ready$/m);
      const lines: [typed: string, completed: string][] = [
        ['mesh-hub ledger ver', 'mesh-hub ledger verify'],
        ['mesh-hub task run --requ', 'mesh-hub task run --require-verified'],
        ['mesh-hub task list --state=deliv', 'mesh-hub task list --state=delivered'],
        ['mesh-hub task diff --repo rece', 'mesh-hub task diff --repo receipts-of-may/'],
        ['mesh-hub receipt verify rece', 'mesh-hub receipt verify receipts-of-may/'],
      ];
      for (const [typed, completed] of lines) {
        await screen.type(typed);
        await screen.press('Tab');
        await screen.until(
          (text) => (text.split('\n').at(-1) ?? '').includes(completed),
          `${typed} to become ${completed}`,
        );
        await screen.press('C-u');
        await screen.until((text) => !(text.split('\n').at(-1) ?? '').includes('mesh-hub'), 'an empty line');
      }
      await screen.type('mesh-hub task why ');
      await screen.press('Tab');
      await screen.type('#still-here');
      await screen.shows(/mesh-hub task why #still-here/);
      assert.not.match(await screen.text(), /error|SF_|not found/i);
    } finally {
      await screen.close();
      rmSync(home, { recursive: true, force: true });
    }
  });
}

test.run();
