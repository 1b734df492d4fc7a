import { spawnSync } from 'node:child_process';
import { chmodSync, existsSync, mkdirSync, mkdtempSync, readdirSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const home = mkdtempSync(join(tmpdir(), 'sf-compiled-'));
test.after(() => rmSync(home, { recursive: true, force: true }));

/** Runs a command with this cache folder, and tells how many files it then holds. */
function kept(cache: string): number {
  const done = spawnSync(resolve(import.meta.dirname, '../../../scripts/mesh-node'), ['--version'], {
    env: { PATH: process.env.PATH, HOME: home, XDG_CACHE_HOME: cache },
    encoding: 'utf8',
  });
  assert.is(done.status, 0, done.stderr);
  assert.is(done.stderr, '');
  const folder = join(cache, 'superfleet/compiled');
  return existsSync(folder) ? readdirSync(folder, { recursive: true }).length : 0;
}

test('what was compiled is kept in the user’s own cache folder', () => {
  const cache = join(home, 'own');
  mkdirSync(cache, { mode: 0o700 });
  assert.ok(kept(cache) > 10);
});

test('a folder that others may write to, or that is no folder, is not used, and nothing is said', () => {
  const open = join(home, 'open');
  mkdirSync(open);
  chmodSync(open, 0o777);
  assert.is(kept(open), 0);
  assert.is(kept('/dev/null'), 0);
  assert.is(kept('relative'), 0);
});

test.run();
