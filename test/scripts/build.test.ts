// limit: 120 s
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { buildForTests } from '../../scripts/build/program.ts';

const ROOT = join(import.meta.dirname, '../..');
const sources = ['protocol', 'ledger', 'node', 'hub'].flatMap((room) =>
  readdirSync(join(ROOT, room), { recursive: true, encoding: 'utf8' })
    .filter((name) => /\.[jt]s$/.test(name))
    .map((name) => join(room, name)),
);
const text = (name: string): string => readFileSync(join(ROOT, name), 'utf8');

test('a file beside a module is named by ownFile or ownModule, for what is built lies elsewhere', () => {
  const beside = sources.filter((name) => text(name).includes('import.meta'));
  assert.equal(beside.sort(), ['node/cli/version.ts', 'node/own-program.ts']);
});

test('what is built holds every program that is started and every file that is read, and runs', async () => {
  const name = await buildForTests();
  const built = join(ROOT, '.built', name);
  assert.is(await buildForTests(), name, 'the same sources are built once');
  const named = sources.flatMap((name) => [
    ...text(name)
      .matchAll(/\bown(File|Module)\('([^']+)'\)/g)
      .map(([, kind, path]) => (kind === 'Module' ? `${path}.js` : path!)),
  ]);
  assert.ok(named.includes('ledger/snapshots/snapshot-process.js'), 'they are found in the sources');
  for (const path of named) assert.ok(existsSync(join(built, path)), `${path} is in what is built`);
  for (const bin of ['hub/cli.js', 'hub/mesh-node.js']) {
    const done = spawnSync(process.execPath, [join(built, bin), '--version'], { encoding: 'utf8' });
    assert.match(done.stdout, /^\d+\.\d+\.\d+\n$/, done.stderr);
  }
});

test('the launchers of a clone run the build that is named, and the sources where there is none', async () => {
  const name = await buildForTests();
  const told = (env: NodeJS.ProcessEnv): string =>
    spawnSync('sh', ['-x', join(ROOT, 'scripts/mesh-hub'), '--version'], {
      encoding: 'utf8',
      env: { PATH: process.env.PATH, ...env },
    }).stderr;
  assert.match(told({ SUPERFLEET_BUILD: name }), `.built/${name}/hub/cli.js --version`);
  for (const env of [
    {},
    { SUPERFLEET_BUILD: 'none' },
    { SUPERFLEET_BUILD: name, NODE_OPTIONS: '--no-warnings' },
  ]) {
    assert.match(told(env), 'scripts/../hub/cli.js --version');
  }
});

test.run();
