// limit: 120 s
import { existsSync, readdirSync, readFileSync, rmSync } from 'node:fs';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { run } from './mesh.ts';

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
  const done = await run([join(ROOT, 'scripts/quickstart.sh')], { cwd: '/' });
  assert.is(done.code, 0, done.stdout + done.stderr);
  const line = (name: string): string => new RegExp(`^${name} +(/\\S+)`, 'm').exec(done.stdout)?.[1] ?? '';
  const repository = line('repository');
  const home = dirname(repository);
  try {
    assert.match(done.stdout, /^-echo "Helo/m, 'the diff is shown');
    assert.match(done.stdout, /^\+echo "Hello/m, 'the diff is shown');
    assert.match(done.stdout, /^proved: /m, 'the receipt is checked');
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

test('quickstart refuses what it does not know (exit 2)', async () => {
  const done = await run([join(ROOT, 'scripts/quickstart.sh'), '--fast']);
  assert.is(done.code, 2);
  assert.match(done.stderr, /expected --keep/);
});

test.run();
