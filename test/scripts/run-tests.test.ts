import { spawnSync } from 'node:child_process';
import { mkdirSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const ROOT = join(import.meta.dirname, '../..');

/** What the runner makes of these test files: its output and exit code. */
function runnerOn(files: Record<string, string>): { code: number | null; out: string } {
  const folder = mkdtempSync(join(tmpdir(), 'run-tests-'));
  try {
    mkdirSync(join(folder, 'test'));
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, 'test', name), text);
    const done = spawnSync(process.execPath, [join(ROOT, 'scripts/run-tests.ts')], {
      cwd: folder,
      encoding: 'utf8',
    });
    return { code: done.status, out: done.stdout };
  } finally {
    rmSync(folder, { recursive: true });
  }
}

const uvu = (body: string): string => `import { test } from 'uvu';\n${body}\ntest.run();\n`;
/** Whether it runs; one that ended and was not yet collected does not. */
function runs(pid: number): boolean {
  try {
    return !/\) [ZX] /.test(readFileSync(`/proc/${pid}/stat`, 'latin1'));
  } catch {
    return false;
  }
}
const GREEN = uvu("test('a', () => {}); test('b', () => {});");

test('what passes is counted, and the last line says so', () => {
  const { code, out } = runnerOn({ 'a.test.ts': GREEN });
  assert.is(code, 0, out);
  assert.match(out, /\n2 passed, 0 failed\n$/);
});

test('a hung file is ended at its bound and named', () => {
  const hung = `// limit: 1 s\n${uvu("test('hangs', () => new Promise(() => setInterval(() => {}, 1000)));")}`;
  const { code, out } = runnerOn({ 'a.test.ts': GREEN, 'hung.test.ts': hung });
  assert.is(code, 1);
  assert.match(out, /FAIL test\/hung\.test\.ts/);
  assert.match(out, /hung: ended after 1 s/);
  assert.match(out, /\n2 passed, 1 failed\n$/);
});

test('a file that leaves a process behind has failed, and the process is ended', () => {
  const spawning = `import { spawn } from 'node:child_process';\n${uvu("test('a', () => { spawn('sleep', ['60'], { stdio: 'ignore' }).unref(); });")}`;
  const { code, out } = runnerOn({ 'leaves.test.ts': spawning });
  assert.is(code, 1);
  const pid = Number(/left processes behind: (\d+)/.exec(out)?.[1]);
  assert.ok(pid > 0, out);
  assert.not.ok(runs(pid), 'the process is ended');
});

test('a file that runs no test, and a name that matches none, have failed', () => {
  assert.is(runnerOn({ 'empty.test.ts': 'export {};\n' }).code, 1);
  assert.is(runnerOn({}).code, 1);
});

test.run();
