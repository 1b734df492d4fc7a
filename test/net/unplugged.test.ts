// limit: 300 s
import { execFile, execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  existsSync,
  mkdirSync,
  mkdtempSync,
  readdirSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { lan } from './hosts.ts';
import { greeter, isRoot, type Outcome, ok, run } from './mesh.ts';

/** The archive of `npm run bundle` on machines that have no network but each other, and no Node. */

const ROOT = join(import.meta.dirname, '../..');
const home = mkdtempSync(join(tmpdir(), 'sf-unplugged-'));
/** Where a stick was unpacked: a name that a shell would take apart. */
const stick = join(home, 'my stick');
/** What every machine has, and nothing else of this one: no Node, no npm. */
const tools = join(home, 'tools');
let unpacked = '';

test.before(async () => {
  chmodSync(home, 0o755);
  mkdirSync(stick);
  mkdirSync(tools);
  for (const name of readdirSync('/usr/bin')) {
    if (!/^(node|npm|npx|corepack)/.test(name)) symlinkSync(`/usr/bin/${name}`, join(tools, name));
  }
  const built = await promisify(execFile)(
    'node_modules/node/bin/node',
    ['scripts/bundle.ts', '--output', home],
    {
      cwd: ROOT,
    },
  );
  await ok(['sh', '-c', 'cd "$1" && sha256sum --quiet -c ./*.sha256', 'sh', home]);
  await ok(['tar', '-xzf', built.stdout.trim(), '-C', stick]);
  unpacked = join(stick, readdirSync(stick)[0]!);
});
test.after(() => rmSync(home, { recursive: true, force: true }));

const machine = {
  PATH: tools,
  HOME: join(home, 'nobody'),
  XDG_CONFIG_HOME: '',
  XDG_STATE_HOME: '',
  NODE_PATH: '',
};
const install = (...words: string[]): Promise<Outcome> =>
  run(['sh', join(unpacked, 'install.sh'), ...words], { env: machine });

test('the archive installs without a network, twice over, beside the programs of others, and goes again', async () => {
  const prefix = join(home, 'first prefix');
  const done = await install('--prefix', prefix);
  assert.is(done.code, 0, done.stderr);
  assert.match(done.stdout, /^installed \d+\.\d+\.\d+ to /);
  assert.match(done.stdout, /export PATH=/);
  assert.is((await install('--prefix', prefix)).code, 0);
  assert.match(await ok([join(prefix, 'bin/mesh-hub'), '--version'], { env: machine }), /^\d+\.\d+\.\d+\n$/);
  assert.is((await install('--uninstall', '--prefix', prefix)).code, 0);
  assert.equal(readdirSync(join(prefix, 'bin')), []);
  assert.equal(readdirSync(join(prefix, 'lib')), []);

  writeFileSync(join(prefix, 'bin/mesh-hub'), 'somebody else’s');
  const refused = await install('--prefix', prefix);
  assert.is(refused.code, 6);
  assert.match(refused.stderr, /not one of ours/);
  assert.not.ok(existsSync(join(prefix, 'bin/mesh-node')));
});

test('an archive that was cut short or changed is not installed (exit 5)', async () => {
  const spoiled = join(home, 'spoiled');
  mkdirSync(spoiled);
  await ok(['cp', '-R', unpacked, spoiled]);
  const folder = join(spoiled, readdirSync(spoiled)[0]!);
  appendFileSync(join(folder, 'app/dist/hub/mesh-node.js'), '\n');
  const done = await run(['sh', join(folder, 'install.sh'), '--prefix', join(home, 'none')], {
    env: machine,
  });
  assert.is(done.code, 5);
  assert.match(done.stderr, /unpack the archive again/);
  assert.not.ok(existsSync(join(home, 'none')));
});

const works = 'installed on two hosts without a route or a Node: they join and do verified work (promise 17)';
if (!isRoot) {
  console.log('skipped: a part of unplugged.test.ts makes network namespaces and needs root');
  test.skip(works);
} else {
  test(works, async () => {
    const prefix = join(home, 'prefix');
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
      const done = await run(['sh', join(unpacked, 'install.sh'), '--prefix', prefix], {
        where: hubHost,
        env: machine,
      });
      assert.is(done.code, 0, done.stderr);
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

test.run();
