import { spawn } from 'node:child_process';
import {
  chmodSync,
  chownSync,
  cpSync,
  linkSync,
  lstatSync,
  mkdirSync,
  mkdtempSync,
  readFileSync,
  rmSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join, relative, resolve } from 'node:path';
import { text } from 'node:stream/consumers';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { dropPrivileges, FALLBACK_UID, privilegeFault, resolveAccount } from '../../node/privileges.ts';
import { importsIn } from '../../scripts/import-rule.ts';

const root = process.getuid?.() === 0;
const needsRoot = (name: string, body: () => Promise<void>): void => {
  if (root) return void test(name, body);
  console.log('skipped: only root has privileges to drop');
  test.skip(name, body);
};

const status = (uid: string, gid: string, groups: string, caps: string): string =>
  `Name:\tnode\nUid:\t${uid}\nGid:\t${gid}\nGroups:\t${groups} \nNStgid:\t1\nCapInh:\t${caps}\nCapPrm:\t${caps}\nCapEff:\t${caps}\nCapBnd:\t000001ffffffffff\nCapAmb:\t${caps}\n`;
const none = '0000000000000000';
const account = { name: 'x', uid: 1000, gid: 1000, home: null };

test('a single id, group or capability left of root is a fault', () => {
  const four = '1000\t1000\t1000\t1000';
  assert.is(privilegeFault(status(four, four, '', none), account), null);
  assert.match(privilegeFault(status('1000\t1000\t0\t1000', four, '', none), account) ?? '', /user id/);
  assert.match(privilegeFault(status('1000\t1000\t1001\t1000', four, '', none), account) ?? '', /differ/);
  assert.match(privilegeFault(status(four, '1000\t1000\t0\t1000', '', none), account) ?? '', /group/);
  assert.match(privilegeFault(status(four, four, '4 27', none), account) ?? '', /4 27/);
  assert.match(privilegeFault(status(four, four, '', '0000000000000080'), account) ?? '', /Cap/);
  assert.match(privilegeFault('', account) ?? '', /who this process is/);
  assert.match(privilegeFault(status('0\t0\t0\t0', four, '', none), null) ?? '', /root/);
});

test('--user is a name, a uid or uid:gid; root by any name is refused (promise 14)', () => {
  assert.is(resolveAccount('1234567').uid, 1234567);
  assert.equal(resolveAccount('1234567:89'), { name: '1234567', uid: 1234567, gid: 89, home: null });
  assert.is(resolveAccount('nobody').name, 'nobody');
  const chosen = resolveAccount(null);
  assert.ok(chosen.name === 'superfleet' || chosen.uid === FALLBACK_UID);
  for (const user of ['root', '0', '0:0', '5:0', '0:5', 'no-such-user-here', '', '-x', '$(id)', '1:2:3']) {
    assert.throws(
      () => resolveAccount(user),
      (error: { code?: string }) => error.code === 'SF_USAGE',
      user,
    );
  }
});

/** Runs `code` as root in a program of its own; what it prints comes back. */
async function asRoot(folder: string, code: string, node = process.execPath): Promise<string> {
  const file = join(folder, `program-${Math.random().toString(36).slice(2)}.ts`);
  writeFileSync(file, code);
  const child = spawn(node, [file], { stdio: ['ignore', 'pipe', 'pipe'] });
  const [out, err] = await Promise.all([text(child.stdout), text(child.stderr)]);
  return err === '' ? out : `${out}${err}`;
}

const source = (path: string): string => JSON.stringify(new URL(`../../${path}`, import.meta.url).href);

needsRoot(
  'after the drop no way back is left, in any thread, and nothing of root’s can be read (promise 14)',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sf-test-drop-'));
    chmodSync(folder, 0o755);
    const secret = join(folder, 'secret');
    writeFileSync(secret, 'canary', { mode: 0o600 });
    const data = join(folder, 'data');
    const out = await asRoot(
      folder,
      `import { dropPrivileges, verifyUnprivileged } from ${source('node/privileges.ts')};
     import { readFileSync, readdirSync, writeFileSync, statSync } from 'node:fs';
     import { readFile } from 'node:fs/promises';
     await Promise.all(Array.from({ length: 8 }, () => readFile('/etc/passwd')));
     const account = await dropPrivileges({ own: [${JSON.stringify(data)}] });
     verifyUnprivileged(account);
     writeFileSync(${JSON.stringify(join(data, 'mine'))}, 'x');
     const ids = new Set(readdirSync('/proc/self/task').map((t) => /^Uid:.*$/m.exec(readFileSync('/proc/self/task/' + t + '/status', 'utf8'))[0]));
     const secret = await readFile(${JSON.stringify(secret)}).then(() => 'BAD', (error) => error.code);
     console.log(JSON.stringify({ uid: process.getuid(), ids: [...ids], threads: readdirSync('/proc/self/task').length, secret, home: process.env.HOME, mode: statSync(${JSON.stringify(join(data, 'mine'))}).mode & 0o777 }));`,
    );
    const told = JSON.parse(out);
    const { uid } = resolveAccount(null);
    assert.is(told.uid, uid);
    assert.equal(told.ids, [`Uid:\t${uid}\t${uid}\t${uid}\t${uid}`]);
    assert.ok(told.threads > 4);
    assert.is(told.secret, 'EACCES');
    assert.is(told.mode, 0o600);
    assert.is(statSync(data).uid, uid);
    rmSync(folder, { recursive: true });
  },
);

needsRoot(
  'the data folder is given away, but no link is followed and no second name of a file given',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sf-test-own-'));
    chmodSync(folder, 0o755);
    const data = join(folder, 'data');
    mkdirSync(join(data, 'inner'), { recursive: true });
    chmodSync(data, 0o700);
    const outside = join(folder, 'outside');
    writeFileSync(outside, 'root’s');
    writeFileSync(join(data, 'inner', 'file'), 'x');
    symlinkSync(outside, join(data, 'link'));
    linkSync(outside, join(data, 'hard'));
    const out = await asRoot(
      folder,
      `import { dropPrivileges } from ${source('node/privileges.ts')};
     await dropPrivileges({ own: [${JSON.stringify(data)}] });`,
    );
    assert.is(out, '');
    const { uid } = resolveAccount(null);
    assert.is(statSync(outside).uid, 0);
    assert.is(lstatSync(join(data, 'hard')).uid, 0);
    assert.is(lstatSync(join(data, 'link')).uid, uid);
    assert.is(statSync(join(data, 'inner', 'file')).uid, uid);
    assert.is(statSync(data).mode & 0o777, 0o700);
    rmSync(folder, { recursive: true });
  },
);

needsRoot(
  'a folder of somebody else, one others may write, a link and one out of reach are refused',
  async () => {
    const folder = mkdtempSync(join(tmpdir(), 'sf-test-refuse-'));
    const make = (name: string, mode: number, uid: number): string => {
      const path = join(folder, name);
      mkdirSync(path);
      chmodSync(path, mode);
      chownSync(path, uid, uid);
      return path;
    };
    symlinkSync('/tmp', join(folder, 'link'));
    // The last is fine in itself, but its parent is root's alone (mkdtemp makes it 0700).
    for (const path of [
      make('theirs', 0o700, 1234),
      make('open', 0o777, 0),
      join(folder, 'link'),
      make('fine', 0o700, 0),
    ]) {
      const out = await asRoot(
        folder,
        `import { dropPrivileges } from ${source('node/privileges.ts')};
       await dropPrivileges({ own: [${JSON.stringify(path)}] }).then(() => console.log('BAD'), (error) => console.log(error.code));`,
      );
      assert.is(out, 'SF_FOLDER\n', path);
    }
    rmSync(folder, { recursive: true });
  },
);

/** These files of the program and all that they import of it, by their paths in the repository. */
function importedBy(...entries: string[]): string[] {
  const root = new URL('../../', import.meta.url).pathname;
  const found = new Set(entries);
  for (const path of found) {
    for (const to of importsIn(readFileSync(join(root, path), 'utf8'))) {
      if (to.startsWith('.')) found.add(relative(root, resolve(root, dirname(path), to)));
    }
  }
  return [...found];
}

needsRoot('a program that only root can read drops and runs a task in the sandbox (promise 14)', async () => {
  const folder = mkdtempSync(join(tmpdir(), 'sf-test-hidden-'));
  chmodSync(folder, 0o700);
  cpSync(new URL('../../package.json', import.meta.url), join(folder, 'package.json'));
  for (const path of importedBy(
    'node/privileges.ts',
    'node/sandbox/bubblewrap.ts',
    'node/sandbox/probe.ts',
  )) {
    cpSync(new URL(`../../${path}`, import.meta.url), join(folder, path), { recursive: true });
  }
  // Programs that the sandbox runs, and imports nowhere.
  cpSync(new URL('../../node/sandbox/', import.meta.url), join(folder, 'node/sandbox'), { recursive: true });
  for (const name of ['zod']) {
    cpSync(new URL(`../../node_modules/${name}`, import.meta.url), join(folder, 'node_modules', name), {
      recursive: true,
    });
  }
  cpSync(process.execPath, join(folder, 'node-binary'));
  const out = await asRoot(
    folder,
    `import { dropPrivileges } from './node/privileges.ts';
     import { createSandbox } from './node/sandbox/bubblewrap.ts';
     let late;
     await dropPrivileges({ preload: [async () => { late = await import('./node/sandbox/probe.ts'); }] });
     const again = await import('./node/sandbox/probe.ts').then(() => 'loaded', (error) => error.code);
     const fresh = await import('./protocol/limits.ts').then(() => 'BAD', (error) => error.code);
     const sandbox = createSandbox();
     const report = await late.probe(sandbox);
     const run = sandbox.start({ argv: ['id', '-u'], env: {}, mounts: [], cwd: '/tmp', stdin: null, limits: { memoryBytes: 1e8, processes: 20, diskBytes: null, watchBytesIn: null, wallMs: 5000 } }, new AbortController().signal);
     let said = ''; run.stdout.on('data', (bytes) => (said += bytes)); run.stderr.resume();
     const end = await run.ended;
     console.log(JSON.stringify({ works: report.works, lacks: report.lacks, again, fresh, said, code: end.exitCode }));`,
    join(folder, 'node-binary'),
  );
  rmSync(folder, { recursive: true });
  const told = JSON.parse(out);
  assert.equal(told.lacks, []);
  assert.is(told.works, true);
  assert.is(told.again, 'loaded');
  assert.not.equal(told.fresh, 'BAD');
  assert.is(told.said, `${resolveAccount(null).uid}\n`);
  assert.is(told.code, 0);
});

test('started as an ordinary user it changes nothing', async () => {
  if (root) {
    await dropPrivileges();
    assert.not.equal(process.getuid?.(), 0);
  }
  const before = [process.getuid?.(), process.getgid?.(), process.env.HOME];
  assert.is(await dropPrivileges({ user: 'no-such-user' }), null);
  assert.equal([process.getuid?.(), process.getgid?.(), process.env.HOME], before);
});

test.run();
