// limit: 400 s
import { execFile, execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  statSync,
  symlinkSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { lan } from './hosts.ts';
import { greeter, isRoot, type Outcome, ok, run } from './mesh.ts';

/**
 * The package as a stranger installs it: packed, into an empty folder, run by plain Node over `dist/`. Then the archive of
 * `npm run bundle` made of the same tarball, on machines that have no network but each other, and no Node. In one file, for
 * a build takes the one before away.
 */

const ROOT = join(import.meta.dirname, '../..');
const home = mkdtempSync(join(tmpdir(), 'sf-package-'));
const app = join(home, 'app');
const bins = ['mesh-hub', 'mesh-node'] as const;
const bin = (name: string): string => join(app, 'node_modules/superfleet/scripts/bin', `${name}.js`);
/** Where a stick was unpacked: a name that a shell would take apart. */
const stick = join(home, 'my stick');
/** What every machine has, and nothing else of this one: no Node, no npm. */
const tools = join(home, 'tools');
/** Where the archive is installed. */
const prefix = join(home, 'a prefix');
let unpacked = '';

/** Runs what may take minutes on a busy machine; answers its stdout. The limit of the file bounds it. */
async function make(cwd: string, file: string, ...args: string[]): Promise<string> {
  return (await promisify(execFile)(file, args, { cwd })).stdout.trim();
}

test.before(async () => {
  chmodSync(home, 0o755);
  for (const folder of [app, stick, tools]) mkdirSync(folder);
  for (const name of readdirSync('/usr/bin')) {
    if (!/^(node|npm|npx|corepack)/.test(name)) symlinkSync(`/usr/bin/${name}`, join(tools, name));
  }
  await make(ROOT, 'npm', 'pack', '--silent', '--pack-destination', home);
  const name = readdirSync(home).find((name) => name.endsWith('.tgz'));
  assert.ok(name !== undefined, 'npm pack gives a tarball');
  const tarball = join(home, name!);
  writeFileSync(join(app, 'package.json'), '{"private":true}');
  // What the setup fetched is there already; nothing is asked for anew.
  const install = ['install', '--no-audit', '--no-fund', '--loglevel=error', '--prefer-offline', tarball];
  const words = ['--package', tarball, '--gzip', '1', '--output', home];
  const [built] = await Promise.all([
    make(ROOT, process.execPath, 'scripts/bundle.ts', ...words),
    make(app, 'npm', ...install),
  ]);
  await ok(['sh', '-c', 'cd "$1" && sha256sum --quiet -c ./*.sha256', 'sh', home]);
  await ok(['tar', '-xzf', built, '-C', stick]);
  unpacked = join(stick, readdirSync(stick)[0]!);
});
test.after(() => rmSync(home, { recursive: true, force: true }));

test('the tarball holds what was built and documented, and no source or test', () => {
  const files = readdirSync(join(app, 'node_modules/superfleet'), { recursive: true, encoding: 'utf8' });
  for (const wanted of [
    'dist/hub/cli.js',
    'dist/hub/mesh-node.js',
    'dist/ledger/snapshots/snapshot-process.js',
    'README.md',
    'LICENSE',
    'CHANGELOG.md',
    'docs/cli.md',
  ]) {
    assert.ok(files.includes(wanted), `${wanted} is in the package`);
  }
  const sources = files.filter((file) => file.endsWith('.ts') && !file.endsWith('.d.ts'));
  assert.equal(sources, []);
});

test('both bins are linked by their names and tell their version', async () => {
  for (const name of bins) {
    assert.ok(existsSync(join(app, 'node_modules/.bin', name)));
    assert.match(await ok([process.execPath, bin(name), '--version']), /^\d+\.\d+\.\d+\n$/);
  }
});

test('the installed hub makes a mesh, runs a task for it, and stops', async () => {
  const env = { MESH_HOME: join(home, 'packed') };
  const hub = (...words: string[]): Promise<string> =>
    ok([process.execPath, bin('mesh-hub'), ...words], { env });
  await hub('init', '--name', 'packed', '--recovery-key', join(home, 'packed.key'));
  const ready = JSON.parse(await hub('start', '--port', '0', '--detach', '--json')) as { event: string };
  assert.is(ready.event, 'ready');
  try {
    const task = JSON.parse(await hub('task', 'run', '--no-repo', '--wait', '--json', '--', 'true')) as {
      state: string;
    };
    assert.is(task.state, 'delivered');
  } finally {
    await hub('stop');
  }
});

const old = ['/usr/bin/node', '/usr/local/bin/node'].find((path) => {
  if (!existsSync(path)) return false;
  const [major = 0, minor = 0] = execFileSync(path, ['-p', 'process.versions.node'], { encoding: 'utf8' })
    .split('.')
    .map(Number);
  return major < 22 || (major === 22 && minor < 18);
});
const refuses = 'under an older Node both bins refuse in one sentence (exit 6)';
if (old === undefined) {
  console.log('skipped: this machine has no Node older than 22.18 to be refused');
  test.skip(refuses);
} else {
  test(refuses, async () => {
    for (const name of bins) {
      const done = await run([old, bin(name), 'status']);
      assert.is(done.code, 6);
      assert.is(done.stdout, '');
      assert.match(
        done.stderr,
        new RegExp(`^${name} needs Node.js 22\\.18 or newer, and this is \\d+\\.\\d+\\.\\d+\\.\n$`),
      );
    }
  });
}

const machine = {
  PATH: tools,
  HOME: join(home, 'nobody'),
  XDG_CONFIG_HOME: '',
  XDG_STATE_HOME: '',
  NODE_PATH: '',
};
/** Where it may be, on no network at all. */
const install = (...words: string[]): Promise<Outcome> =>
  run([...(isRoot ? ['unshare', '--net'] : []), 'sh', join(unpacked, 'install.sh'), ...words], {
    env: machine,
  });

test('the archive installs without a network, twice over', async () => {
  const done = await install('--prefix', prefix);
  assert.is(done.code, 0, done.stderr);
  assert.match(done.stdout, /^installed \d+\.\d+\.\d+ to /);
  assert.match(done.stdout, /export PATH=/);
  assert.is((await install('--prefix', prefix)).code, 0);
  assert.match(await ok([join(prefix, 'bin/mesh-hub'), '--version'], { env: machine }), /^\d+\.\d+\.\d+\n$/);
});

test('the archive holds of its modules only what Node reads', () => {
  const files = readdirSync(join(unpacked, 'app/node_modules'), { recursive: true, encoding: 'utf8' });
  assert.ok(files.includes('zod/index.js'));
  assert.equal(
    files.filter((file) => /\.(map|[cm]?ts)$/.test(file)),
    [],
  );
});

test('an archive that was cut short or changed is not installed (exit 5)', async () => {
  const file = join(unpacked, 'app/dist/hub/mesh-node.js');
  const { size } = statSync(file);
  appendFileSync(file, '\n');
  const done = await install('--prefix', join(home, 'none')).finally(() => truncateSync(file, size));
  assert.is(done.code, 5);
  assert.match(done.stderr, /unpack the archive again/);
  assert.not.ok(existsSync(join(home, 'none')));
});

const works = 'installed on two hosts without a route or a Node: they join and do verified work (promise 17)';
if (!isRoot) {
  console.log('skipped: a part of package.test.ts makes network namespaces and needs root');
  test.skip(works);
} else {
  test(works, async () => {
    const net = lan(2);
    const [hubHost, nodeHost] = net.hosts as [string, string];
    const on =
      (where: string, bin: string, folder: string) =>
      (...words: string[]): Promise<string> =>
        ok([join(prefix, 'bin', bin), ...words], {
          where,
          env: { ...machine, MESH_HOME: join(home, folder) },
          cwd: home,
        });
    const hub = on(hubHost, 'mesh-hub', 'hub');
    const node = on(nodeHost, 'mesh-node', 'node');
    try {
      for (const host of net.hosts) execFileSync('ip', ['-n', host, 'route', 'delete', 'default']);
      await hub('init', '--name', 'unplugged', '--recovery-key', join(home, 'recovery.key'));
      await hub('start', '--detach');
      const token = (await hub('invite')).trim();
      await node('join', token, '--name', 'spare', '--detach');
      const repository = await greeter(join(home, 'greeter'));
      const words = ['--repo', repository, '--on', 'spare', '--check', 'sh test.sh', '--wait', '--json'];
      const task = JSON.parse(
        await hub('task', 'run', ...words, '--', 'sed', '-i', 's/Helo/Hello/', 'greet.sh'),
      ) as Record<string, unknown>;
      assert.is(task.state, 'delivered');
      assert.is(task.verified, true);
    } finally {
      await node('stop').catch(() => {});
      await hub('stop').catch(() => {});
      net.close();
    }
  });
}

test('it goes again, and never over the programs of others (exit 6)', async () => {
  assert.is((await install('--uninstall', '--prefix', prefix)).code, 0);
  assert.equal(readdirSync(join(prefix, 'bin')), []);
  assert.equal(readdirSync(join(prefix, 'lib')), []);

  writeFileSync(join(prefix, 'bin/mesh-hub'), 'somebody else’s');
  const refused = await install('--prefix', prefix);
  assert.is(refused.code, 6);
  assert.match(refused.stderr, /not one of ours/);
  assert.not.ok(existsSync(join(prefix, 'bin/mesh-node')));
});

test.run();
