// limit: 240 s
import { execFileSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ok, run } from './mesh.ts';

/** The package as a stranger installs it: packed, into an empty folder, run by plain Node over `dist/`. */

const ROOT = join(import.meta.dirname, '../..');
const home = mkdtempSync(join(tmpdir(), 'sf-package-'));
const app = join(home, 'app');
const bins = ['mesh-hub', 'mesh-node'] as const;
const bin = (name: string): string => join(app, 'node_modules/superfleet/scripts/bin', `${name}.js`);

test.before(async () => {
  chmodSync(home, 0o755);
  mkdirSync(app);
  await ok(['npm', 'pack', '--silent', '--pack-destination', home], { cwd: ROOT });
  const tarball = readdirSync(home).find((name) => name.endsWith('.tgz'));
  assert.ok(tarball !== undefined, 'npm pack gives a tarball');
  writeFileSync(join(app, 'package.json'), '{"private":true}');
  const install = ['npm', 'install', '--no-audit', '--no-fund', '--loglevel=error', join(home, tarball!)];
  await ok(install, { cwd: app });
});
test.after(() => rmSync(home, { recursive: true, force: true }));

test('the tarball holds what was built and documented, and no source or test', () => {
  const files = readdirSync(join(app, 'node_modules/superfleet'), { recursive: true, encoding: 'utf8' });
  for (const wanted of [
    'dist/hub/cli.js',
    'dist/hub/mesh-node.js',
    'dist/ledger/snapshot-process.js',
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
  const env = { MESH_HOME: join(home, 'hub') };
  const hub = (...words: string[]): Promise<string> =>
    ok([process.execPath, bin('mesh-hub'), ...words], { env });
  await hub('init', '--name', 'packed', '--recovery-key', join(home, 'recovery.key'));
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

test.run();
