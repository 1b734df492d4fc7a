// limit: 180 s
import { existsSync, readFileSync, rmSync } from 'node:fs';
import { rename } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { EventBody } from '../../ledger/lines/events.ts';
import { Log } from '../../ledger/log/log.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { Mesh, type Outcome, ok } from './mesh.ts';

/** A folder of a stopped founder, copied: the same founder elsewhere, or by `fork` a mesh of its own. */
const mesh = new Mesh();
test.after(() => mesh.close());

interface Forked {
  mesh: string;
  name: string;
  founder: string;
  parent: { mesh: string; size: number; root: string };
}
interface Status {
  mesh: string;
  size: number;
  root: string;
  nodes: { online: number; total: number };
}

const at = (name: string): string => join(mesh.home, name);
const errorOf = (done: Outcome) =>
  (JSON.parse(done.stderr.trim().split('\n').at(-1)!) as { error: Record<string, string> }).error;
const forkOf = (name: string): Promise<Outcome> =>
  mesh.hub(['fork', '--dir', at(name), '--name', 'lab', '--recovery-key', at(`${name}.recovery`), '--json']);

async function genesisOf(folder: string): Promise<EventBody<'mesh.created'>> {
  const log = await Log.open({ storage: new FileStorage(folder), key: null });
  await log.close();
  return log.genesis;
}

let original: Status;

test('a folder in use is refused to a second process; a copy of a stopped one is the same founder elsewhere', async () => {
  const founder = await mesh.founder();
  const second = await mesh.hub(['start', '--port', '0', '--json']);
  assert.equal([second.code, errorOf(second).code], [6, 'SF_LOCKED']);
  for (let n = 0; n < 3; n += 1) await mesh.json(['invite']);
  original = await mesh.json<Status>(['status']);
  await founder.end('SIGTERM');
  for (const name of ['copy', 'fork']) await ok(['cp', '-a', mesh.dir('hub'), at(name)]);

  mesh.place('hub', at('copy'));
  const copy = await mesh.startFounder();
  const there = await mesh.json<Status>(['status']);
  assert.equal([there.mesh, there.size, there.root], [original.mesh, original.size, original.root]);
  await mesh.json(['invite']);
  assert.is((await mesh.hub(['ledger', 'verify'])).code, 0);
  await copy.end('SIGTERM');
  mesh.place('hub', at('hub'));
});

test('a fork is another mesh that names the checkpoint it began at; its old log stays, its old keys do not', async () => {
  const key = readFileSync(join(at('fork'), 'log.key'), 'utf8');
  const done = await forkOf('fork');
  assert.is(done.code, 0, done.stderr);
  const made = JSON.parse(done.stdout) as Forked;
  const { size, root } = original;
  assert.equal(made.parent, { mesh: original.mesh, size, root });
  assert.is.not(made.mesh, original.mesh);
  const { parent, name, founder } = await genesisOf(join(at('fork'), 'log'));
  assert.equal([parent!.mesh, name, founder], [original.mesh, 'lab', made.founder]);
  assert.match(parent!.checkpoint, `${original.mesh}\n${size}\n`);
  assert.is((await verifyLog(new FileStorage(join(at('fork'), 'log.parent-1')))).root, root);
  assert.is.not(readFileSync(join(at('fork'), 'log.key'), 'utf8'), key);
  assert.is.not((await genesisOf(join(at('hub'), 'log'))).founder, founder);
  assert.ok(existsSync(at('fork.recovery')));
});

test('both run side by side, and a member of the old mesh stays with it', async () => {
  await mesh.startFounder();
  await mesh.member('m1');
  mesh.place('hub', at('fork'));
  await mesh.startFounder();
  const forked = await mesh.json<Status>(['status']);
  assert.equal([forked.nodes.online, forked.nodes.total], [1, 1]);
  assert.is((await mesh.hub(['ledger', 'verify'])).code, 0);
  mesh.place('hub', at('hub'));
  const old = await mesh.json<Status>(['status']);
  assert.equal([old.mesh, old.nodes.online, old.nodes.total], [original.mesh, 2, 2]);
  for (const daemon of mesh.daemons) await daemon.end('SIGTERM');
});

test('the folder in which the founder ran is not forked; a fork that was cut short goes on', async () => {
  const refused = await forkOf('hub');
  assert.equal([refused.code, errorOf(refused).code], [2, 'SF_CONFLICT']);
  assert.match(errorOf(refused).hint!, /cp -a/);
  assert.not.ok(existsSync(at('hub.recovery')));
  assert.is((await mesh.hub(['ledger', 'verify'])).code, 0);

  await ok(['cp', '-a', at('hub'), at('cut')]);
  await rename(join(at('cut'), 'log'), join(at('cut'), 'log.parent-1'));
  for (const key of ['log.key', 'identity.key']) rmSync(join(at('cut'), key));
  const start = await mesh.hub(['start', '--dir', at('cut'), '--port', '0', '--json']);
  assert.is.not(start.code, 0);
  const done = await forkOf('cut');
  assert.is(done.code, 0, done.stderr);
  assert.is((JSON.parse(done.stdout) as Forked).parent.mesh, original.mesh);
  // A fork may be forked.
  await ok(['cp', '-a', at('cut'), at('again')]);
  const again = await forkOf('again');
  assert.is(again.code, 0, again.stderr);
  assert.is((JSON.parse(again.stdout) as Forked).parent.mesh, (JSON.parse(done.stdout) as Forked).mesh);
  assert.ok(existsSync(join(at('again'), 'log.parent-2')));
});

test.run();
