// limit: 120 s
import { execFileSync, spawnSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  readFileSync,
  rmSync,
  symlinkSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { modelServers } from '../../node/doctor/models.ts';
import { ScriptedOllama } from '../model-server/scripted-ollama.ts';
import { isRoot, run } from './mesh.ts';

const ROOT = join(import.meta.dirname, '../..');

/** Processes whose command line or environment names this folder. */
function processesNaming(folder: string): string[] {
  const named = (path: string): boolean => {
    try {
      return readFileSync(path, 'latin1').includes(folder);
    } catch {
      return false; // Gone meanwhile, or not ours to read.
    }
  };
  return readdirSync('/proc').filter(
    (pid) => /^\d+$/.test(pid) && (named(`/proc/${pid}/cmdline`) || named(`/proc/${pid}/environ`)),
  );
}

test('quickstart delivers a verified branch with a receipt, and leaves nothing running', async () => {
  const server = await new ScriptedOllama(['scripted-coder:7b'], () => [
    { do: 'call', name: 'edit', arguments: { path: 'greet.sh', old: 'Helo', new: 'Hello' } },
    { do: 'call', name: 'finish', arguments: { summary: 'Spelt right.' } },
  ]).listen();
  const env = { OLLAMA_HOST: server.url };
  const done = await run([join(ROOT, 'scripts/quickstart.sh')], { cwd: '/', env });
  await server.close();
  assert.is(done.code, 0, done.stdout + done.stderr);
  const line = (name: string): string => new RegExp(`^${name} +(/\\S+)`, 'm').exec(done.stdout)?.[1] ?? '';
  const repository = line('repository');
  const home = dirname(repository);
  try {
    assert.match(done.stdout, /^-echo "Helo/m, 'the diff is shown');
    assert.match(done.stdout, /^\+echo "Hello/m, 'the diff is shown');
    assert.match(done.stdout, /^proved: /m, 'the receipt is checked');
    const goal = done.stdout.slice(done.stdout.indexOf('A goal, for a model'));
    assert.match(goal, /^\$ mesh-hub task code '.*' --check 'sh test.sh'/m);
    assert.match(goal, /^\+echo "Hello/m, 'what the model did is shown');
    assert.match(done.stdout, /^executor +spare-1$/m, 'a member did it');
    assert.match(done.stdout, /^verified +yes, by (?!spare-1)/m, 'somebody else checked it');
    const receipt = JSON.parse(readFileSync(line('receipt'), 'utf8')) as { format: string };
    assert.is(receipt.format, 'superfleet-receipt/1');
    assert.ok(existsSync(line('log')), 'the log is where it says');
    const branches = await run(['git', '-C', repository, 'branch', '--list', 'mesh/*']);
    assert.match(branches.stdout, /mesh\/[a-z2-7]{12}/);
    assert.equal(processesNaming(home), [], 'no process of it is left');
  } finally {
    rmSync(home, { recursive: true, force: true });
  }
});

/** A clone in a folder with a space in its name, for an unprivileged user: the files, and these modules. */
function cloneFor(uid: number): { home: string; root: string } {
  const home = mkdtempSync(join(tmpdir(), 'sf-clone-'));
  const root = join(home, 'a clone');
  mkdirSync(root);
  const tracked = execFileSync('git', ['ls-files', '-coz', '--exclude-standard'], {
    cwd: ROOT,
    encoding: 'utf8',
  }).split('\0');
  const named = tracked.filter((path) => path !== '' && existsSync(join(ROOT, path)));
  // With their times: a lock file newer than the modules would have them installed again.
  execFileSync('cp', ['-p', '--parents', '-t', root, ...named], { cwd: ROOT });
  symlinkSync(join(ROOT, 'node_modules'), join(root, 'node_modules'));
  mkdirSync(join(home, 'tmp of u'));
  execFileSync('chown', ['-R', '-h', `${uid}:${uid}`, home]);
  chmodSync(home, 0o755);
  return { home, root };
}

const UID = 200_000 + (process.pid % 100_000);
const asUser = (argv: string[], env: Record<string, string>): string[] => [
  ...['setpriv', '--reuid', `${UID}`, '--regid', `${UID}`, '--clear-groups', '--inh-caps=-all', 'env', '-i'],
  ...['PATH=/usr/local/bin:/usr/bin:/bin', ...Object.entries(env).map(([key, value]) => `${key}=${value}`)],
  ...argv,
];
/** Nobody but root may read this clone: then its modules are out of an unprivileged user's reach. */
function readable(): boolean {
  const [file, ...args] = asUser(['test', '-r', join(ROOT, 'node_modules/node/bin/node')], {});
  return isRoot && spawnSync(file!, args).status === 0;
}

if (!readable()) {
  console.log('skipped: only root can act as another user, and this clone must be readable for all');
  test.skip('quickstart --keep by an unprivileged user');
} else {
  test('quickstart --keep, unprivileged, from another folder, by a path with spaces: what it tells holds', async () => {
    const { home, root } = cloneFor(UID);
    try {
      const env = { HOME: home, TMPDIR: join(home, 'tmp of u') };
      const done = await run(asUser([join(root, 'scripts/quickstart.sh'), '--keep'], env), { cwd: '/' });
      assert.is(done.code, 0, done.stdout + done.stderr);
      if ((await modelServers()).length === 0)
        assert.match(done.stdout, /^No model server answers[\s\S]*^\$ mesh-hub task code '/m);
      const told = done.stdout.slice(done.stdout.indexOf('To go on with it')).match(/^ {2}.*$/gm) ?? [];
      assert.ok(told.length > 6, done.stdout);
      const went = await run(asUser(['sh', '-e', '-c', told.join('\n')], env), { cwd: '/' });
      assert.is(went.code, 0, went.stdout + went.stderr);
      assert.match(went.stdout, /^merge: .* is in/m);
      assert.match(went.stderr, /delivered, verified by/);
      assert.equal(readdirSync(env.TMPDIR), [], 'the mesh and its folder are gone');
      assert.equal(processesNaming(home), []);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });

  test('without bubblewrap, and not allowed to install it, quickstart says what to type (exit 6)', async () => {
    const { home, root } = cloneFor(UID);
    try {
      const script = 'mount --bind /dev/null /usr/bin/bwrap && exec "$@"';
      const quickstart = asUser([join(root, 'scripts/quickstart.sh')], { HOME: home });
      const done = await run(['unshare', '-m', 'sh', '-c', script, 'sh', ...quickstart]);
      assert.is(done.code, 6, done.stdout + done.stderr);
      assert.match(done.stderr, /^setup: missing: bubblewrap$/m);
      assert.match(done.stderr, /^setup: run {2}sudo \S+ .*bubblewrap$|^setup: install them with/m);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });

  test('setup.sh, where nothing is missing, changes nothing and says how to go on', async () => {
    const { home, root } = cloneFor(UID);
    try {
      const done = await run(asUser([join(root, 'scripts/setup.sh')], { HOME: home }), { cwd: '/' });
      assert.is(done.code, 0, done.stderr);
      assert.match(done.stderr, `ready: put ${root}/scripts on your PATH`);
      const path = /\(export PATH=(".*")\)/.exec(done.stderr)?.[1] ?? '';
      const found = await run(['sh', '-c', `PATH=${path}; mesh-hub --version && mesh-node --version`]);
      assert.is(found.code, 0, found.stderr);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });

  test('a clone that is not set up says so in a sentence (exit 6)', async () => {
    const { home, root } = cloneFor(UID);
    try {
      rmSync(join(root, 'node_modules'));
      for (const name of ['mesh-hub', 'mesh-node']) {
        const done = await run([join(root, 'scripts', name), 'status'], { env: { PATH: '/usr/bin:/bin' } });
        assert.is(done.code, 6);
        assert.is(done.stderr, `${name}: this clone is not set up; run  ${root}/scripts/setup.sh\n`);
        const json = await run([join(root, 'scripts', name), 'status', '--json']);
        assert.is(JSON.parse(json.stderr).error.code, 'SF_NODE_VERSION');
      }
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  });
}

test('quickstart refuses what it does not know (exit 2)', async () => {
  const done = await run([join(ROOT, 'scripts/quickstart.sh'), '--fast']);
  assert.is(done.code, 2);
  assert.match(done.stderr, /expected --keep/);
});

test.run();
