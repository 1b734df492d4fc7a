import { spawnSync } from 'node:child_process';
import {
  existsSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';

const ROOT = join(import.meta.dirname, '../..');

/** What the runner makes of these test files: its output and exit code, and what they wrote into `notes`. */
function runnerOn(files: Record<string, string>): { code: number | null; out: string; notes: string } {
  const folder = mkdtempSync(join(tmpdir(), 'run-tests-'));
  try {
    mkdirSync(join(folder, 'test'));
    symlinkSync(join(ROOT, 'node_modules'), join(folder, 'node_modules'));
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, 'test', name), text);
    const done = spawnSync(process.execPath, [join(ROOT, 'scripts/run-tests.ts')], {
      cwd: folder,
      encoding: 'utf8',
    });
    const notes = join(folder, 'notes');
    return {
      code: done.status,
      out: done.stdout,
      notes: existsSync(notes) ? readFileSync(notes, 'utf8') : '',
    };
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

test('two run at a time, timed ones beside each other only, and those alone by themselves', () => {
  // Each waits until as many of its kind have begun as shall run at a time; where fewer do, its limit ends it.
  const noting = (kind: string, width: number): string => `// limit: 20 s
// ${kind}: why
import { appendFileSync, readFileSync } from 'node:fs';
const note = (what: string) => appendFileSync('notes', what + ' ${kind}\\n');
const begun = () => readFileSync('notes', 'utf8').split('began ${kind}').length - 1;
${uvu(`test('a', async () => {
  note('began');
  do await new Promise((resolve) => setTimeout(resolve, 50)); while (begun() < ${width});
  note('ended');
});`)}`;
  const files: Record<string, string> = {};
  for (const kind of ['crowd', 'timed', 'alone']) {
    for (const n of [1, 2, 3]) files[`${kind}${n}.test.ts`] = noting(kind, kind === 'alone' ? 1 : 2);
  }
  const { code, out, notes } = runnerOn(files);
  assert.is(code, 0, out);
  const open: string[] = [];
  const beside = new Set<string>();
  for (const line of notes.trim().split('\n')) {
    const [what = '', kind = ''] = line.split(' ');
    if (what === 'began') open.push(kind);
    else open.splice(open.indexOf(kind), 1);
    beside.add(open.join('+'));
  }
  assert.equal([...beside].sort(), ['', 'alone', 'crowd', 'crowd+crowd', 'timed', 'timed+timed']);
});

test('a file that runs no test, and a name that matches none, have failed', () => {
  assert.is(runnerOn({ 'empty.test.ts': 'export {};\n' }).code, 1);
  assert.is(runnerOn({}).code, 1);
});

test.run();
