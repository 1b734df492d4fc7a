// limit: 240 s
import { spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Client } from '../../node/api/client.ts';
import { greeter, Mesh, type Outcome, run } from './mesh.ts';

/** Proofs of a real log: made by the founder and for a member, checked by a stranger without a network, and forged. */

const mesh = new Mesh();
let id = '';
let task = '';
let unverified = '';
/** A folder that is all the stranger has. */
const elsewhere = join(mesh.home, 'elsewhere');
const offline = ['unshare', '--map-root-user', '--net'];
const isolated = spawnSync(offline[0]!, [...offline.slice(1), 'true']).status === 0;
if (!isolated) console.log('no network namespace of one’s own here: the stranger has this machine’s network');

/** `mesh-hub` or `mesh-node` where there is no data folder and no network. */
const stranger = (args: string[], bin = 'mesh-hub'): Promise<Outcome> =>
  run([...(isolated ? offline : []), join(mesh.program, 'scripts', bin), ...args], {
    cwd: elsewhere,
    env: { MESH_HOME: '/nonexistent' },
  });
const lastLine = ({ stdout }: Outcome): string => stdout.trimEnd().split('\n').at(-1) ?? '';
const place = (name: string): string => join(elsewhere, name);

async function proved(args: string[]): Promise<string> {
  const done = await stranger(['proof', 'verify', ...args, '--mesh', id]);
  assert.is(done.code, 0, done.stdout + done.stderr);
  assert.match(lastLine(done), /^proved: /);
  return lastLine(done);
}
async function refused(args: string[], why: RegExp): Promise<void> {
  const done = await stranger(['proof', 'verify', ...args, '--mesh', id]);
  assert.is(done.code, 5, done.stdout + done.stderr);
  assert.match(lastLine(done), /^not proved: /);
  assert.match(lastLine(done), why);
}
async function prove(of: string[], file: string): Promise<void> {
  const done = await mesh.hub(['ledger', 'prove', ...of, '--output', place(file)]);
  assert.is(done.code, 0, done.stderr);
}
const json = (file: string): Record<string, unknown> => JSON.parse(readFileSync(place(file), 'utf8'));
const spelled = (file: string, value: unknown): void =>
  writeFileSync(place(file), `${JSON.stringify(value, null, 2)}\n`);

test.before(async () => {
  mkdirSync(elsewhere);
  const founder = await mesh.founder({ args: ['--port', '0', '--log-level', 'warn'] });
  id = (await founder.event('ready')).mesh as string;
  const repository = await greeter(join(mesh.home, 'repository'));
  await mesh.member('m1');
  const words = ['task', 'run', '--json', '--wait', '--on', 'm1'];
  const argv = ['sed', '-i', 's/Helo/Hello/', 'greet.sh'];
  const done = await mesh.hub([...words, '--check', 'sh test.sh', '--', ...argv], { cwd: repository });
  assert.is(done.code, 0, done.stderr);
  task = JSON.parse(done.stdout).id;
  const own = await mesh.node('m1', ['task', 'run', '--json', '--wait', '--no-repo', '--', 'true']);
  assert.is(own.code, 0, own.stderr);
  unverified = JSON.parse(own.stdout).id;
});
test.after(() => mesh.close());

test('a task is proved to a stranger without a network: the log has its receipt and its verification (promise 4)', async () => {
  await prove([task], 'proof.json');
  const file = json('proof.json');
  assert.equal(Object.keys(file), [
    'format',
    'receipt',
    'index',
    'entry',
    'path',
    'checkpoint',
    'genesis',
    'handovers',
  ]);
  assert.is(JSON.parse(file.entry as string).type, 'task.converged');
  const said = await proved(['proof.json']);
  assert.match(
    said,
    `proved: m1 ran task ${task}, and hub verified it; entry ${file.index} of mesh hub (task.converged)`,
  );
  const whole = await stranger(['proof', 'verify', 'proof.json', '--mesh', id, '--json'], 'mesh-node');
  const { proved: yes, standing, task: of, receipt, entry } = JSON.parse(whole.stdout);
  assert.equal([yes, standing, of, entry.body.receipt], [true, 'proved', task, receipt]);

  // The receipt in it is the file of `receipt show`, byte for byte.
  const receiptFile = await mesh.hub(['receipt', 'show', task]);
  assert.is(`${JSON.stringify(file.receipt, null, 2)}\n`, receiptFile.stdout);
  assert.is((await mesh.hub(['ledger', 'prove', task])).stdout, readFileSync(place('proof.json'), 'utf8'));

  const unknown = await stranger(['proof', 'verify', 'proof.json']);
  assert.is(unknown.code, 5);
  assert.is(lastLine(unknown), 'signature good, signer unknown');
});

test('a forged, mixed or mistaken file is not proved', async () => {
  await prove([unverified], 'other.json');
  await proved(['other.json']);
  const [file, other] = [json('proof.json'), json('other.json')];
  spelled('mixed.json', { ...file, receipt: other.receipt });
  await refused(['mixed.json'], /another task/);
  spelled('other-entry.json', { ...file, entry: other.entry });
  await refused(['other-entry.json'], /another root/);
  const better = (file.entry as string).replace('"verified":true', '"verified":false');
  assert.is.not(better, file.entry);
  spelled('better.json', { ...file, entry: better });
  await refused(['better.json'], /another root/);
  spelled('other-size.json', { ...file, checkpoint: (file.checkpoint as string).replace(/^\d+$/m, '9') });
  await refused(['other-size.json'], /does not hold/);
  writeFileSync(place('mailed.json'), readFileSync(place('proof.json'), 'utf8').replaceAll('\n', '\r\n'));
  await refused(['mailed.json'], /CRLF/);
  writeFileSync(place('receipt.json'), (await mesh.hub(['receipt', 'show', task])).stdout);
  await refused(['receipt.json'], /not of the form/);
  const absent = await stranger(['proof', 'verify', 'absent.json', '--mesh', id]);
  assert.is(absent.code, 2);
  const elsewhereMesh = await stranger(['proof', 'verify', 'proof.json', '--mesh', 'f'.repeat(64)]);
  assert.is(elsewhereMesh.code, 5);
  assert.match(lastLine(elsewhereMesh), /^not proved: it is of mesh /);
});

test('a member proves its own task and growth, and is refused what it may not read', async () => {
  const own = await mesh.node('m1', ['ledger', 'prove', unverified, '--output', place('own.json')]);
  assert.is(own.code, 0, own.stderr);
  await proved(['own.json']);
  for (const not of [task, '0']) assert.is((await mesh.node('m1', ['ledger', 'prove', not])).code, 4, not);
  // A copy of its own newest checkpoint is what a member has in hand.
  writeFileSync(place('checkpoint'), readFileSync(join(mesh.dir('m1'), 'checkpoint')));
  const since = ['--since', place('checkpoint')];
  const grown = await mesh.node('m1', ['ledger', 'prove', ...since, '--output', place('own-growth.json')]);
  assert.is(grown.code, 0, grown.stderr);
  await proved(['own-growth.json', '--since', 'checkpoint']);
});

test('there is no proof of what is not there', async () => {
  for (const [of, code] of [
    [['9999999'], 2],
    [['zzzzzzzzzzzz'], 2],
    [['--since', '9999999'], 5],
    [[], 2],
    [[task, '--since', '1'], 2],
    [['no id'], 2],
    [['--since', 'absent'], 2],
  ] as const) {
    assert.is((await mesh.hub(['ledger', 'prove', ...of])).code, code, of.join(' '));
  }
});

test('while the log grows, over a restart and without its tiles, every entry stays provable and growth too', async () => {
  await prove(['0'], 'genesis.json');
  const client = new Client({ dir: mesh.dir('hub'), startHint: 'mesh-hub start' });
  for (let n = 0; n < 150; n += 1) {
    for (const act of ['pause', 'resume']) await client.post(`/v1/mesh/${act}`);
  }
  const tiles = join(mesh.dir('hub'), 'tiles');
  await prove(['200'], 'grown.json');
  assert.ok(existsSync(join(tiles, 'tile/0/000')), 'the first 256 entries have a tile');
  await proved(['grown.json']);
  await prove(['--since', place('genesis.json')], 'growth.json');
  assert.match(
    await proved(['growth.json', '--since', 'genesis.json']),
    /begins with the \d+ of the checkpoint/,
  );
  await refused(['growth.json'], /--since/);
  await refused(['growth.json', '--since', 'grown.json'], /ask for `ledger prove --since \d+`/);

  await mesh.daemons[0]!.end('SIGTERM');
  await mesh.startFounder();
  await prove(['12'], 'restarted.json');
  await proved(['restarted.json']);
  await mesh.daemons.at(-1)!.end('SIGTERM');
  rmSync(tiles, { recursive: true });
  await mesh.startFounder();
  for (const one of [task, '100', '300']) {
    await prove([one], `anew-${one}.json`);
    await proved([`anew-${one}.json`]);
  }
  await prove(['--since', place('grown.json')], 'again.json');
  await proved(['again.json', '--since', 'grown.json']);
});

test.run();
