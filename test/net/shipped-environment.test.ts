// limit: 150 s
/** What the founder's machine prepared, for members whose owners allow no network: real daemons, a real server of packages. */
import { execFileSync } from 'node:child_process';
import { once } from 'node:events';
import { existsSync, readdirSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { OwnNodeObject, TaskDetail } from '../../node/api/objects.ts';
import { Fleet, freePort } from './fleet.ts';
import { greeter, type Outcome } from './mesh.ts';

const asked: string[] = [];
const server = createServer((message, response) => {
  asked.push(message.url ?? '');
  response.end('#!/bin/sh\necho from made\n');
}).listen(0, '127.0.0.1');
await once(server, 'listening');
const { port } = server.address() as AddressInfo;

const ARGS = ['--port', String(await freePort())];
const hosts = [{ host: 'localhost', ports: [port], addresses: ['127.0.0.1'] }];
const fleet = await Fleet.start({
  hub: { slots: 1, environment: { hosts } },
  hubArgs: ARGS,
  members: { one: { slots: 1 }, two: { slots: 1 } },
});
const invited = await fleet.json<{ token: string }>(['invite', '--role', 'worker', '--role', 'submitter']);
fleet.configure('other', { slots: 0 });
fleet.members.set('other', await fleet.joinWith('other', invited.token));
test.after(async () => {
  await fleet.close();
  await new Promise((resolve) => server.close(resolve));
});

const repository = await greeter(join(fleet.home, 'project'));
// What does not shrink is long enough on its way to be interrupted.
const line = `unset no_proxy; mkdir -p made/bin && curl -sf http://localhost:${port}/tool >made/bin/made-tool && chmod +x made/bin/made-tool && ln -s bin/made-tool made/same && head -c 24000000 /dev/urandom >made/large`;
writeFileSync(
  join(repository, '.superfleet.yaml'),
  `prepare: [${JSON.stringify(line)}]\ncache: [made]\nneeds: {network: [localhost]}\nchecks: ['[ "$(made-tool)" = "from made" ]']\nlimits: {timeout: 5m}\n`,
);
execFileSync('git', ['add', '.superfleet.yaml'], { cwd: repository });
const as = ['-c', 'user.name=T', '-c', 'user.email=t@example.invalid'];
execFileSync('git', [...as, 'commit', '-qm', 'a manifest'], { cwd: repository });

const run = (on: string, ...more: string[]): string[] => [
  'task',
  'run',
  '--json',
  '--on',
  on,
  ...more,
  '--',
  'sh',
  '-c',
  'made-tool >out.txt',
];
const environments = (name: string): string[] => {
  const folder = join(fleet.dir(name), 'environments');
  return existsSync(folder) ? readdirSync(folder).filter((entry) => !entry.startsWith('.')) : [];
};
/** Archives, whole and half, in the store of this machine. */
const archives = (name: string): string[] => {
  const folder = join(fleet.dir(name), 'environments', '.archives');
  return ['blobs', 'incoming'].flatMap((each) =>
    existsSync(join(folder, each)) ? readdirSync(join(folder, each)) : [],
  );
};
const logs = async (task: string): Promise<string> => (await fleet.hub(['task', 'logs', task])).stdout;

/** How the task ends at a machine that has nothing and may prepare nothing. */
async function lacking({ stdout, stderr, code }: Outcome): Promise<void> {
  assert.is(code, 0, stderr);
  const { id } = JSON.parse(stdout) as TaskDetail;
  const { reason } = await fleet.ended(id);
  assert.is(reason, 'environment');
  const { body } = await fleet.about(id, 'attempt.ended');
  assert.is(body.fault, 'machine');
  assert.match(String(body.detail), /needs localhost, which the owner of one may allow/);
}

test('a founder that has none prepared gives none: the machine says what it lacks', async () => {
  await lacking(await fleet.hub(run('one'), { cwd: repository }));
  assert.equal([asked, environments('one'), environments('hub')], [[], [], []]);
});

test('what a task at the founder’s machine prepared serves executor and verifier that may not prepare it', async () => {
  const filled = await fleet.hub(['task', 'run', '--wait', '--no-check', '--on', 'hub', '--', 'true'], {
    cwd: repository,
  });
  assert.equal([filled.code, asked, environments('hub').length], [0, ['/tool'], 1], filled.stderr);
  assert.is((await fleet.hub(['node', 'drain', 'hub'])).code, 0);
  // Without the founder's machine a new one is checked by whom a person vouches for.
  assert.is((await fleet.hub(['node', 'trust', 'two', '--vouch'])).code, 0);
  assert.match((await fleet.hub(['trust', 'show'])).stdout, /^two +yes +10 +0 +100 %$/m);
  const sent = await fleet.hub(run('one', '--wait'), { cwd: repository });
  assert.is(sent.code, 0, sent.stderr);
  const task = JSON.parse(sent.stdout) as TaskDetail;
  assert.equal([task.verified, task.executor?.name, task.verifier?.name], [true, 'one', 'two']);
  assert.match(await logs(task.id), /prepare: from the founder's machine, 3 files, 22\.9 MiB/);
  assert.equal(asked, ['/tool']);
  assert.equal([environments('one'), environments('two')], [environments('hub'), environments('hub')]);
  assert.equal([archives('one'), archives('two')], [[], []]);
  assert.is(archives('hub').length, 1);
  const said = await fleet.node('one', ['status', '--json']);
  const { environments: held } = JSON.parse(said.stdout) as OwnNodeObject;
  assert.equal([held?.count, held?.bytesMax, (held?.bytes ?? 0) > 24_000_000], [1, 32 * 1024 ** 3, true]);
  assert.match(
    (await fleet.node('one', ['status'])).stdout,
    /^prepared +1 environment, 2[23](\.\d)? MiB of 32\.0 GiB$/m,
  );
});

test('another submitter’s task on the same commit is not given it', async () => {
  await lacking(await fleet.node('other', run('one'), { cwd: repository }));
  assert.equal(asked, ['/tool']);
  assert.is(environments('one').length, 1);
});

test('a member that may but cannot reach the host has it too; killed while it comes it begins again, and leaves nothing half', async () => {
  // Its owner did not name the address, so that no connection is made: as where there is no internet.
  fleet.configure('three', { slots: 1, environment: { hosts: [{ host: 'localhost', ports: [port] }] } });
  const { token } = await fleet.client.post<{ token: string }>('/v1/invites', {});
  fleet.members.set('three', await fleet.joinWith('three', token));
  const sent = await fleet.hub(run('three'), { cwd: repository });
  assert.is(sent.code, 0, sent.stderr);
  const { id } = JSON.parse(sent.stdout) as TaskDetail;
  const part = (): boolean => archives('three').some((name) => name.endsWith('.part'));
  await fleet.untilAsked(async () => part(), 'an archive on its way');
  await fleet.daemon('three').end('SIGKILL');
  assert.equal(environments('three'), []);
  fleet.members.set('three', await fleet.startMember('three'));
  const { state, executor } = await fleet.ended(id);
  assert.equal([state, executor?.name], ['delivered', 'three']);
  assert.match(await logs(id), /prepare: unset no_proxy;[\s\S]*prepare: from the founder's machine, 3 files/);
  assert.equal(asked, ['/tool']);
  assert.equal([environments('three').length, archives('three')], [1, []]);
  const beside = readdirSync(join(fleet.dir('three'), 'environments')).filter((name) => name.startsWith('.'));
  assert.equal(
    beside.filter((name) => name !== '.runtime'),
    ['.archives'],
  );
});

test('a founder that is killed while it gives one is asked again', async () => {
  fleet.configure('four', { slots: 1 });
  const { token } = await fleet.client.post<{ token: string }>('/v1/invites', {});
  fleet.members.set('four', await fleet.joinWith('four', token));
  const sent = await fleet.hub(run('four'), { cwd: repository });
  assert.is(sent.code, 0, sent.stderr);
  const { id } = JSON.parse(sent.stdout) as TaskDetail;
  const part = (): boolean => archives('four').some((name) => name.endsWith('.part'));
  await fleet.untilAsked(async () => part(), 'an archive on its way');
  await fleet.hubDaemon!.end('SIGKILL');
  await fleet.up(ARGS);
  const { state, executor } = await fleet.ended(id);
  assert.equal([state, executor?.name, asked], ['delivered', 'four', ['/tool']]);
  assert.match(await logs(id), /prepare: from the founder's machine/);
  assert.equal(archives('four'), []);
});

test('a founder that starts anew has let go of its archives', async () => {
  await fleet.hubDaemon!.end('SIGTERM');
  assert.equal(archives('hub'), []);
  await fleet.up(ARGS);
});

test.run();
