/** What the founder's machine prepared, for whoever holds a lease of it: real stores on a real disk. */
import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { pino } from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { EnvironmentLease } from '../../../hub/core/results/blob-access.ts';
import { GivenEnvironments } from '../../../hub/daemon/given-environments.ts';
import { packEnvironment } from '../../../node/environment/archive.ts';
import { environmentName } from '../../../node/environment/digest.ts';
import { Environments } from '../../../node/environment/environments.ts';
import { shippedBounds } from '../../../node/environment/tree-check.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { Folder } from '../../node/sandbox/support.ts';

const DIGEST = 'ab'.repeat(32);
const ADA = 'ada'.padEnd(64, '0');
const BOB = 'bob'.padEnd(64, '0');
const PARTS = [{ in: 'workspace', path: 'made' }] as const;
const signal = new AbortController().signal;

const open = (folder: string): Promise<Environments> =>
  Environments.open({ folder, sandbox: createSandbox(), hosts: () => [], versions: async () => ({}) });

/** Puts an environment of one folder there, as if it had been prepared. */
async function prepared(environments: Environments, root: string, submitter: string): Promise<string> {
  const name = environmentName(submitter, 'repo', DIGEST);
  const from = join(root, `tree-${submitter}`);
  mkdirSync(join(from, '0'), { recursive: true });
  writeFileSync(join(from, '0', 'tool'), `of ${submitter}`);
  symlinkSync('tool', join(from, '0', 'same'));
  const file = { format: 1 as const, digest: name, parts: [...PARTS], bytes: 0 };
  const store = await environments.store();
  const made = await store.unpack(
    {
      digest: name,
      makes: PARTS,
      bounds: shippedBounds,
      fetch: async () => ({ bytes: packEnvironment(from, file, signal), done: async () => {} }),
      unpacked: () => {},
    },
    signal,
  );
  made.release();
  return name;
}

class Setting implements AsyncDisposable {
  readonly folder = new Folder('given');
  readonly leases = new Map<string, EnvironmentLease>();
  environments!: Environments;
  given!: GivenEnvironments;

  static async make(): Promise<Setting> {
    const setting = new Setting();
    setting.environments = await open(join(setting.folder.path, 'environments'));
    setting.given = new GivenEnvironments({
      environments: setting.environments,
      leased: (peer, task) => setting.leases.get(`${peer} ${task}`) ?? null,
      logger: pino({ level: 'silent' }),
    });
    return setting;
  }

  lease(peer: string, task: string, more: Partial<EnvironmentLease> = {}): void {
    const lease = { submitter: ADA, repository: 'repo', executedHere: false, ...more };
    this.leases.set(`${peer} ${task}`, lease);
  }

  get archives(): string[] {
    return readdirSync(join(this.folder.path, 'environments', '.archives', 'blobs'));
  }

  async [Symbol.asyncDispose](): Promise<void> {
    await this.given.close();
    this.folder[Symbol.dispose]();
  }
}

test('a lease gives the archive of its own submitter and repository, and nothing without one', async () => {
  await using setting = await Setting.make();
  const { environments, given, folder } = setting;
  for (const submitter of [ADA, BOB]) await prepared(environments, folder.path, submitter);
  setting.lease('one', 't1');
  setting.lease('two', 't2', { submitter: BOB });
  setting.lease('one', 't3', { repository: 'another' });
  setting.lease('one', 't4', { executedHere: true });
  setting.lease('one', 't5', { repository: null });
  const wanted = (task: string, digest = DIGEST) => ({ task, digest });
  const mine = await given.give('one', wanted('t1'));
  const theirs = await given.give('two', wanted('t2'));
  assert.ok(mine !== null && theirs !== null && mine.blob !== theirs.blob);
  for (const task of ['t2', 't3', 't4', 't5', 't6'])
    assert.is(await given.give('one', wanted(task)), null, task);
  assert.is(await given.give('one', wanted('t1', 'cd'.repeat(32))), null);
  assert.equal(
    [given.mayFetch('one', mine.blob), given.mayFetch('one', theirs.blob), given.mayFetch('two', mine.blob)],
    [true, false, false],
  );
  assert.ok((await given.holding(mine.blob)?.manifest(mine.blob))?.bytes === mine.bytes);
  assert.is(given.holding('ef'.repeat(32)), null);
  setting.leases.delete('one t1');
  assert.is(given.mayFetch('one', mine.blob), false, 'the lease is over');
});

test('many who ask at once wait for one archive; with the founder they all go', async () => {
  await using setting = await Setting.make();
  const { environments, given, folder } = setting;
  await prepared(environments, folder.path, ADA);
  const asking = Array.from({ length: 20 }, (_, n) => {
    setting.lease(`peer${n}`, 't1');
    return given.give(`peer${n}`, { task: 't1', digest: DIGEST });
  });
  const blobs = new Set((await Promise.all(asking)).map((each) => each?.blob));
  assert.equal([blobs.size, setting.archives], [1, [...blobs] as string[]]);
  await given.close();
  assert.equal(setting.archives, []);
  assert.is(await given.give('peer1', { task: 't1', digest: DIGEST }), null);
});

test('an archive goes when no lease has needed it for a while, and is packed again when one does', async () => {
  await using setting = await Setting.make();
  const { environments, given, folder } = setting;
  await prepared(environments, folder.path, ADA);
  setting.lease('one', 't1');
  const first = await given.give('one', { task: 't1', digest: DIGEST });
  await given.sweep(0);
  assert.is(setting.archives.length, 1, 'a lease needs it');
  setting.leases.clear();
  await given.sweep(60_000);
  assert.is(setting.archives.length, 1, 'it was used just now');
  await given.sweep(0);
  assert.equal(setting.archives, []);
  assert.is(given.holding(first!.blob), null);
  setting.lease('one', 't2');
  assert.equal(await given.give('one', { task: 't2', digest: DIGEST }), first);
});

test('what may not be packed is not given, and leaves nothing', async () => {
  await using setting = await Setting.make();
  const { environments, given, folder } = setting;
  const name = await prepared(environments, folder.path, ADA);
  execFileSync('mkfifo', [join(folder.path, 'environments', name, '0', 'pipe')]);
  setting.lease('one', 't1');
  assert.is(await given.give('one', { task: 't1', digest: DIGEST }), null);
  const root = join(folder.path, 'environments', '.archives');
  assert.equal([setting.archives, readdirSync(join(root, 'incoming'))], [[], []]);
});

test('what a crash left of archives is gone at the next start', async () => {
  await using setting = await Setting.make();
  const { environments, given, folder } = setting;
  const name = await prepared(environments, folder.path, ADA);
  setting.lease('one', 't1');
  assert.ok(await given.give('one', { task: 't1', digest: DIGEST }));
  await open(join(folder.path, 'environments'));
  const left = readdirSync(join(folder.path, 'environments')).filter((entry) => entry !== '.runtime');
  assert.equal(left, [name]);
});

test.run();
