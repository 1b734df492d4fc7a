// limit: 180 s
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, cpSync, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { TaskDetail } from '../../node/api/objects.ts';
import { greeter, Mesh, ok } from './mesh.ts';

/** The auditor's page, command by command, on receipts of a real mesh; and what the program says to the same. */

const major = Number(
  /^OpenSSL (\d+)/.exec(spawnSync('openssl', ['version'], { encoding: 'utf8' }).stdout ?? '')?.[1] ?? 0,
);
const here = major >= 3 ? test : test.skip;
if (major < 3) console.log('skipped: openssl 3.0 or newer is not installed here');

const blocksOf = (page: string): string[] => {
  const text = readFileSync(new URL(`../../docs/${page}`, import.meta.url), 'utf8');
  return [...text.matchAll(/^```sh\n(.*?)^```$/gms)].map((match) => match[1] ?? '');
};
/** `clone` ends after block 0, and so on, by what the page does in each. */
const STEPS = [
  'clone',
  'whole',
  'helpers',
  'mesh',
  'certificates',
  'signatures',
  'same',
  'says',
  'commit',
  'head',
  'files',
  'log',
];

const mesh = new Mesh();
interface Delivered {
  id: string;
  commit: string;
  receipt: string;
}
let id = '';
let repository = '';
let first: Delivered;
let second: Delivered;

async function deliver(words: string): Promise<Delivered> {
  const argv = ['sed', '-i', `s/Helo/Hello/;$a# ${words}`, 'greet.sh'];
  const task = await mesh.hub(
    ['task', 'run', '--json', '--wait', '--on', 'm1', '--check', 'sh test.sh', '--', ...argv],
    {
      cwd: repository,
    },
  );
  assert.is(task.code, 0, task.stderr);
  const { id, commit, verified } = JSON.parse(task.stdout) as {
    id: string;
    commit: string;
    verified: boolean;
  };
  assert.is(verified, true);
  const receipt = await mesh.hub(['receipt', 'show', id]);
  assert.is(receipt.code, 0, receipt.stderr);
  return { id, commit, receipt: receipt.stdout };
}

test.before(async () => {
  const founder = await mesh.founder({ args: ['--port', '0', '--log-level', 'error'] });
  id = (await founder.event('ready')).mesh as string;
  repository = await greeter(join(mesh.home, 'a repository of ünïcode'));
  await mesh.member('m1');
  first = await deliver('one');
  second = await deliver('two');
});
test.after(() => mesh.close());

/** Follows the page in a folder of its own with these files; `step` is the last that held. */
function follow(files: Record<string, string>, env: Record<string, string> = {}, shell = 'sh') {
  const folder = mkdtempSync(join(mesh.home, 'audit of '));
  try {
    for (const [name, text] of Object.entries(files)) writeFileSync(join(folder, name), text);
    const script = blocksOf('audit.md').map((block, at) => `${block}\necho "held: ${STEPS[at]}"\n`);
    const done = spawnSync(shell, ['-c', script.join('\n')], {
      cwd: folder,
      env: { PATH: process.env.PATH ?? '', HOME: folder, MESH: id, REPOSITORY: repository, ...env },
      encoding: 'utf8',
      timeout: 60_000,
    });
    const held = [...done.stdout.matchAll(/^held: (\w+)$/gm)].map((match) => match[1]);
    return { ...done, failed: STEPS[held.length] ?? null };
  } finally {
    rmSync(folder, { recursive: true, force: true });
  }
}

/** The text with one character in the middle of the nth field of this name changed. */
function changed(text: string, field: string, nth: number): string {
  const match = [...text.matchAll(new RegExp(`"${field}": "([^"]*)"`, 'g'))][nth]!;
  const at = match.index + match[0].length - Math.floor(match[1]!.length / 2);
  return text.slice(0, at) + (text[at] === 'A' ? 'B' : 'A') + text.slice(at + 1);
}

/** A copy of the repository's folder. */
function copied(name: string): string {
  const folder = join(mesh.home, name);
  cpSync(repository, folder, { recursive: true });
  return folder;
}
const git = (folder: string, ...args: string[]): string =>
  execFileSync('git', ['-c', 'user.name=T', '-c', 'user.email=t@example.invalid', ...args], {
    cwd: folder,
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'pipe'],
  }).trim();

test('the page has the commands of docs/receipts.md word by word, and a name for every step', () => {
  const blocks = blocksOf('audit.md');
  assert.is(blocks.length, STEPS.length);
  for (const block of blocksOf('receipts.md')) {
    assert.ok(blocks.includes(block.replace(/^set -eu\n/, '')), block);
  }
});

test('task run --wait left the receipt file as a note on the commit', async () => {
  const note = await ok(['git', 'notes', '--ref', 'superfleet', 'show', first.commit], { cwd: repository });
  assert.is(note, first.receipt);
  assert.is(git(repository, 'status', '--porcelain'), '');
  await ok(['git', 'update-ref', '-d', 'refs/notes/superfleet'], { cwd: repository });
  const got = await mesh.hub(['task', 'get', first.id], { cwd: repository });
  assert.is(got.code, 0, got.stderr);
  await mesh.hub(['task', 'get', second.id], { cwd: repository });
  assert.is(
    await ok(['git', 'notes', '--ref', 'superfleet', 'show', first.commit], { cwd: repository }),
    note,
  );
});

here('the page proves a true receipt, from the file and from the note, in sh and bash', () => {
  for (const shell of ['sh', 'bash']) {
    const done = follow({ 'receipt.json': first.receipt }, {}, shell);
    assert.is(done.status, 0, done.stdout + done.stderr);
    assert.is(done.stdout.match(/^Signature Verified Successfully$/gm)?.length, 4);
    assert.ok(done.stdout.includes(`commit: ${first.commit}\n`));
    assert.match(done.stdout, /^the history of HEAD does not hold it$/m);
  }
  const noted = follow({}, { COMMIT: `mesh/${first.id}` });
  assert.is(noted.status, 0, noted.stdout + noted.stderr);
});

here('every step of the page fails on what it is there for', () => {
  const file = first.receipt;
  const is = (failed: string, files: Record<string, string>, env: Record<string, string> = {}): void => {
    const done = follow(files, env);
    assert.is.not(done.status, 0, failed);
    assert.is(done.failed, failed, done.stdout + done.stderr);
  };
  is('clone', {}, { COMMIT: 'main' });
  is('whole', { 'receipt.json': file.replaceAll('\n', '\r\n') });
  is('whole', { 'receipt.json': file.slice(0, file.length / 2) });
  is('whole', {
    'receipt.json': `${file.replaceAll('=', '=3D').replace(/.{72}/g, '$&=\n').replace('}\n', '}=\n')}=\n`,
  });
  is('mesh', { 'receipt.json': file }, { MESH: 'f'.repeat(64) });
  is('mesh', { 'receipt.json': changed(file, 'genesis', 0) });
  for (const field of ['payload', 'sig']) {
    for (const nth of [2, 3]) is('certificates', { 'receipt.json': changed(file, field, nth) });
    for (const nth of [0, 1]) is('signatures', { 'receipt.json': changed(file, field, nth) });
  }
  const parts = JSON.parse(file) as Record<string, unknown>;
  const other = JSON.parse(second.receipt) as Record<string, unknown>;
  const spliced = `${JSON.stringify({ ...parts, verification: other.verification }, null, 2)}\n`;
  is('same', { 'receipt.json': spliced });
  is('files', { 'receipt.json': file, 'task.log': 'another log\n' });
  is('log', { 'receipt.json': file, 'log.jsonl': 'another log\n' });

  const stranger = join(mesh.home, 'stranger');
  mkdirSync(stranger);
  git(stranger, 'init', '-q');
  git(stranger, 'commit', '-q', '--allow-empty', '-m', 'other');
  is('commit', { 'receipt.json': file }, { REPOSITORY: stranger });

  const damaged = copied('damaged');
  const blob = git(damaged, 'rev-parse', `${first.commit}:greet.sh`);
  const place = join(damaged, '.git/objects', blob.slice(0, 2), blob.slice(2));
  const forged = git(damaged, 'hash-object', '-w', 'test.sh');
  chmodSync(place, 0o644);
  writeFileSync(place, readFileSync(join(damaged, '.git/objects', forged.slice(0, 2), forged.slice(2))));
  is('clone', { 'receipt.json': file }, { REPOSITORY: damaged });
});

here('the page tells a cherry-picked change from the commit that was verified', () => {
  const picked = copied('picked');
  git(picked, 'commit', '-q', '--allow-empty', '-m', 'meanwhile');
  git(picked, 'cherry-pick', first.commit);
  const done = follow({ 'receipt.json': first.receipt }, { REPOSITORY: picked });
  assert.is(done.status, 0, done.stderr);
  assert.ok(
    done.stdout.includes(`same patch, other commit: ${git(picked, 'rev-parse', 'HEAD')} was not verified`),
  );
  git(picked, 'branch', '-D', `mesh/${first.id}`);
  assert.is(follow({ 'receipt.json': first.receipt }, { REPOSITORY: picked }).failed, 'commit');
});

here(
  'what two machines made, each by itself, is proved without a check, by the page and by the program',
  async () => {
    const few = ['task', 'run', '--replicas', '3', '--agree', '--', 'true'];
    const refused = await mesh.hub(few, { cwd: repository });
    assert.equal([refused.code, /3 machines are to agree, and 2 can ever/.test(refused.stderr)], [4, true]);
    const run = ['task', 'run', '--json', '--wait', '--no-check', '--replicas', '2', '--agree'];
    const line = 'echo made >made.txt; echo too >out; echo out >>.gitignore';
    const done = await mesh.hub([...run, '--artifact', 'out', '--', 'sh', '-c', line], { cwd: repository });
    assert.is(done.code, 0, done.stderr);
    const task = JSON.parse(done.stdout) as TaskDetail;
    assert.equal([task.verified, task.confidence], [true, 0.9]);
    const { stdout: receipt } = await mesh.hub(['receipt', 'show', task.id]);
    const followed = follow({ 'receipt.json': receipt });
    assert.is(followed.status, 0, followed.stdout + followed.stderr);
    assert.match(followed.stdout, /^"replica":true$/m);
    writeFileSync(join(mesh.home, 'replica.json'), receipt);
    const said = await mesh.hub(['receipt', 'verify', join(mesh.home, 'replica.json'), '--mesh', id]);
    assert.is(said.code, 0, said.stdout + said.stderr);
    assert.match(said.stdout, /ran the command itself in attempt 2, and it made the same\.$/m);
    const described = await mesh.hub(['task', 'describe', task.id]);
    assert.match(described.stdout, /^agreed +2 of 2; \S+ agrees$/m);
  },
);

here(
  'a later revocation does not undo a receipt: page and program say so, and what they do not see',
  async () => {
    assert.is((await mesh.hub(['node', 'revoke', 'm1', '--reason', 'sold'])).code, 0);
    const log = await mesh.hub(['ledger', 'export']);
    const again = await mesh.hub(['receipt', 'show', first.id]);
    assert.is(again.stdout, first.receipt, 'the founder hands out the same file');
    const done = follow({ 'receipt.json': first.receipt, 'log.jsonl': log.stdout });
    assert.is(done.status, 0, done.stdout + done.stderr);
    const [, revoked, executed, verified] =
      /^revoked by entry (\d+); the receipt is entry (\d+), its verification entry (\d+)$/m.exec(
        done.stdout,
      ) ?? [];
    assert.ok(Number(executed) < Number(verified) && Number(verified) < Number(revoked), done.stdout);
    // The same log told the other way round: shut out before it signed.
    const lines = log.stdout
      .split('\n')
      .map((line) =>
        line.includes('"type":"member.revoked"') ? line.replace(/^\{"index":\d+/, '{"index":1') : line,
      );
    assert.is(follow({ 'receipt.json': first.receipt, 'log.jsonl': lines.join('\n') }).failed, 'log');
    // What another machine said of it later stands in the log alone.
    const digest = new RegExp(
      `"type":"task.executed","body":{"task":"${first.id}".*"receipt":"([0-9a-f]{64})"`,
    );
    const later = (outcome: string) => {
      const body = { task: first.id, correlation: 'c', of: 'm', outcome, attempt: 3, by: 'm', receipt: '' };
      body.receipt = digest.exec(log.stdout)![1]!;
      const line = JSON.stringify({ index: 999, epoch: 1, time: 1, type: 'task.reverified', body });
      return follow({ 'receipt.json': first.receipt, 'log.jsonl': `${log.stdout.trimEnd()}\n${line}\n` });
    };
    assert.match(later('confirmed').stdout, /^verified again: confirmed$/m);
    assert.is(later('contradicted').failed, 'log');

    writeFileSync(join(mesh.home, 'mailed.json'), first.receipt);
    const env = { MESH_HOME: '/nonexistent' };
    for (const words of [
      ['mailed.json', '--repo', repository],
      ['--repo', repository, '--commit', `mesh/${first.id}`],
    ]) {
      const proved = await mesh.hub(['receipt', 'verify', ...words, '--mesh', id], { cwd: mesh.home, env });
      assert.is(proved.code, 0, proved.stdout + proved.stderr);
      assert.match(proved.stdout, /a revocation is in the log, not in this file/);
      assert.match(proved.stdout.trimEnd().split('\n').at(-1) ?? '', /^proved: m1 ran task/);
    }
  },
);

test.run();
