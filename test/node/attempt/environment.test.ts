// limit: 150 s
/** What a repository depends on, prepared for attempts: real npm, real git, the real sandbox. */
import { once } from 'node:events';
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { acceptReceipt } from '../../../protocol/acceptance.ts';
import type { Assignment, AttemptResult } from '../../../protocol/session.ts';
import type { CommandSpecInput } from '../../../protocol/task.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, executorKey, MESH, Member, toVerify, verifierKey, World } from './harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;
const world = await World.make();
const executor = await Member.open(join(world.folder, 'executor'), world.founder);
const verifier = await Member.open(join(world.folder, 'verifier'), world.founder, 'spare-2', verifierKey);
test.after(async () => {
  await executor.runner.close();
  await verifier.runner.close();
  await world.remove();
});

const app = { name: 'app', version: '1.0.0', dependencies: { dep: 'file:dep' } };
const PROJECT = {
  '.npmrc': 'install-links=true\n',
  'package.json': JSON.stringify(app),
  'package-lock.json': JSON.stringify({
    ...app,
    lockfileVersion: 3,
    requires: true,
    packages: {
      '': app,
      'node_modules/dep': { version: '1.2.3', resolved: 'file:dep', bin: { say: 'say.js' } },
    },
  }),
  'dep/package.json': JSON.stringify({
    name: 'dep',
    version: '1.2.3',
    main: 'index.js',
    bin: { say: 'say.js' },
  }),
  'dep/index.js': 'module.exports = "from dep";',
  'dep/say.js': '#!/usr/bin/env node\nconsole.log(require("dep"));\n',
  'app.js': 'console.log(require("dep"));',
};
const MANIFEST = 'prepare: [npm ci --no-audit --no-fund]\nneeds: {network: []}\n';

let repositories = 0;
/** A repository of its own, whose environments are nobody else's. */
async function project(files: Record<string, string>) {
  const repository = world.repository(`repo-${++repositories}`);
  const base = await repository.commit(files, `repository ${repositories}`);
  return { repository, base };
}

type Source = Awaited<ReturnType<typeof project>>;

async function ran(
  source: Source,
  line: string,
  more: Partial<CommandSpecInput> = {},
  member = executor,
  of: Partial<Assignment> = {},
): Promise<{ assignment: Assignment; result: AttemptResult; log: string }> {
  const spec = { kind: 'command' as const, argv: ['sh', '-c', line], ...more };
  const assignment = await world.assignment(spec, source, of);
  const { result, log } = await member.run(assignment);
  return { assignment, result, log };
}

/** Verifies a result on the other member; gives its words and its log. */
async function verified({ assignment, result }: { assignment: Assignment; result: AttemptResult }) {
  if (result.bundle !== null) await world.founder.put(await bytesOf(executor.blobs, result.bundle));
  const { digest } = acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
  return verifier.run(toVerify(assignment, result, digest));
}

const environmentsOf = async (member: Member): Promise<string[]> =>
  (await readdir(join(member.folder, 'environments')).catch(() => [])).filter((name) => name !== '.runtime');

/** Names in the commit that came back. */
async function committed(
  { repository }: Source,
  { task }: Assignment,
  result: AttemptResult,
): Promise<string[]> {
  const path = join(world.folder, `${task}.bundle`);
  await writeFile(path, await bytesOf(executor.blobs, result.bundle!));
  repository.git('fetch', '-q', path, `refs/heads/mesh/${task}`);
  return repository.git('ls-tree', '-r', '--name-only', 'FETCH_HEAD').split('\n');
}

it('what the manifest prepares is there for command and checks, once for all tasks, and in no commit', async () => {
  const source = await project({ ...PROJECT, '.superfleet.yaml': MANIFEST });
  const line = 'node app.js >out.txt; say; touch node_modules/x 2>/dev/null; [ ! -e node_modules/x ]';
  const checks = ['grep -q "from dep" out.txt && node app.js', 'say'];
  const first = await ran(source, line, { checks });
  assert.is(first.result.outcome, 'succeeded', first.log);
  assert.match(first.log, /superfleet: prepare: npm ci[\s\S]*added 1 package[\s\S]*superfleet: the command:/);
  assert.equal(
    (await committed(source, first.assignment, first.result)).filter((name) =>
      name.startsWith('node_modules'),
    ),
    [],
  );
  const second = await ran(source, line, { checks });
  assert.is(second.result.outcome, 'succeeded', second.log);
  assert.match(second.log, /prepare: .* is here already/);
  assert.not.match(second.log, /added 1 package/);
  assert.is((await environmentsOf(executor)).length, 1);

  const { result, log } = await verified(first);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.match(log, /added 1 package[\s\S]*superfleet: check 1 of 2/);
  assert.is((await environmentsOf(verifier)).length, 1);
});

it('npm and pip say at once that they lack something and have no network, and what a task sets goes before that', async () => {
  const source = await project({ 'a.txt': 'a\n' });
  const npm = await ran(source, 'npm install --no-audit is-number');
  assert.is(npm.result.outcome, 'failed');
  assert.match(npm.log, /ENOTCACHED/);
  const pip = await ran(source, 'python3 -m venv /tmp/v && /tmp/v/bin/pip install six');
  assert.is(pip.result.outcome, 'failed');
  assert.match(pip.log, /No matching distribution found for six/);
  assert.not.match(pip.log, /Retrying/);
  const env = { GOPROXY: 'direct' };
  const own = await ran(source, 'echo "$GOPROXY $CARGO_NET_OFFLINE"', { env });
  assert.match(own.log, /^direct true$/m);
});

it('what one submitter’s task prepared is not given to another’s', async () => {
  const source = await project({ ...PROJECT, '.superfleet.yaml': MANIFEST });
  const before = (await environmentsOf(executor)).length;
  const [ada, bob] = ['a', 'b'].map((letter) => ({ submitter: letter.repeat(64) }));
  const first = await ran(source, 'node app.js', {}, executor, ada);
  const again = await ran(source, 'node app.js', {}, executor, ada);
  const other = await ran(source, 'node app.js', {}, executor, bob);
  for (const { result, log } of [first, again, other]) assert.is(result.outcome, 'succeeded', log);
  assert.match(again.log, /is here already/);
  assert.match(other.log, /added 1 package/);
  assert.is((await environmentsOf(executor)).length, before + 2);
});

it('a verifier prepares what the base says, whatever the result says', async () => {
  const source = await project({ ...PROJECT, '.superfleet.yaml': MANIFEST });
  const line = `printf 'prepare: ["touch /workspace/evil && false"]\\n' >.superfleet.yaml; rm package-lock.json; echo done >out.txt`;
  const done = await ran(source, line, { checks: ['node app.js && test -e out.txt'] });
  assert.is(done.result.outcome, 'succeeded', done.log);
  const { result, log } = await verified(done);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  assert.match(log, /prepare: npm ci/);
  // Nor is a manifest obeyed that only the result has.
  const plain = await project({ 'a.txt': 'a\n' });
  const added = await ran(plain, `printf 'prepare: ["false"]\\n' >.superfleet.yaml`, { checks: ['true'] });
  const other = await verified(added);
  assert.is(other.result.outcome, 'succeeded', other.result.detail ?? '');
  assert.not.match(other.log, /prepare:/);
});

it('without a manifest nothing is prepared for a command', async () => {
  const source = await project(PROJECT);
  const { result, log } = await ran(source, 'test ! -e node_modules');
  assert.is(result.outcome, 'succeeded', log);
  assert.not.match(log, /prepare/);
});

it('nested folders and files are copies, and in no commit either; a link where they belong is not followed', async () => {
  const prepare = `prepare: ["mkdir -p a/b/made top && echo 1 >a/b/made/x && echo 2 >file.txt && echo 3 >top/y"]\ncache: [a/b/made, file.txt, top]\n`;
  const source = await project({ '.superfleet.yaml': prepare, 'a/b/kept': 'k\n' });
  const line =
    'cat a/b/made/x file.txt top/y >out.txt && echo own >a/b/made/x && mv a/b/made a/c && touch top/z';
  const done = await ran(source, `${line}; [ ! -e top/z ] && grep -q 2 out.txt`);
  assert.is(done.result.outcome, 'succeeded', done.log);
  const names = await committed(source, done.assignment, done.result);
  // Moved elsewhere it is the task's own.
  assert.equal(names, ['.superfleet.yaml', 'a/b/kept', 'a/c/x', 'out.txt']);

  const outside = join(world.folder, 'outside');
  await mkdir(outside);
  for (const [path, cache] of [
    ['top', 'top'],
    ['a', 'a/b'],
  ] as const) {
    const linked = await project({
      '.superfleet.yaml': `prepare: ["rm -f ${path}; mkdir -p ${cache}"]\ncache: [${cache}]\n`,
    });
    linked.repository.git('config', 'core.symlinks', 'true');
    const hash = linked.repository.gitWith(`/oldroot${outside}`, 'hash-object', '-w', '--stdin');
    linked.repository.git('update-index', '--add', '--cacheinfo', `120000,${hash},${path}`);
    linked.repository.git('commit', '-q', '-m', 'a link');
    const base = linked.repository.git('rev-parse', 'HEAD');
    const refused = await ran({ ...linked, base }, 'true');
    assert.equal([refused.result.outcome, refused.result.reason], ['failed', 'environment'], refused.log);
    assert.match(refused.result.detail ?? '', /in the way|has .* itself/);
  }
  assert.equal(await readdir(outside), []);
});

it("a red line is the task's fault, a missing program or network the machine's, and the words say what to do", async () => {
  const failed = async (manifest: string, limits: Partial<CommandSpecInput> = {}) => {
    const source = await project({ '.superfleet.yaml': manifest });
    const { result, log } = await ran(source, 'true', limits);
    assert.is(result.outcome, 'failed', log);
    return { kind: [result.reason, result.fault], detail: result.detail ?? '', log };
  };
  const red = await failed('prepare: ["echo so it is said; exit 3"]\n');
  assert.equal(red.kind, ['environment', 'task']);
  assert.match(red.detail, /exit 3` ended with 3/);
  assert.match(red.log, /superfleet: prepare: echo so it is said; exit 3\nso it is said\n/);
  const missing = await failed('prepare: [no-such-tool]\n');
  assert.equal(missing.kind, ['environment', 'machine']);
  assert.match(missing.detail, /not on spare-1\. Install it/);
  const cut = await failed('prepare: ["exit 1"]\nneeds: {network: [registry.example.org]}\n');
  assert.equal(cut.kind, ['environment', 'machine']);
  assert.match(cut.detail, /"environment": \{"hosts": \["registry\.example\.org"\]\}` in config\.json/);
  const slow = await failed('prepare: [sleep 60]\n', { timeoutMs: 400 });
  assert.equal(slow.kind, ['timeout', 'task']);
  const wrong = await failed('prepare: 7\n');
  assert.equal(wrong.kind, ['environment', 'task']);
  assert.match(wrong.detail, /\.superfleet\.yaml, line 1, has a wrong `prepare`; expected a list/);
});

it('a hostile line reaches nothing: no secret, no home, no network, no other folder', async () => {
  const server = createServer((_, response) => response.end('reached')).listen(0, '127.0.0.1');
  await once(server, 'listening');
  try {
    const { port } = server.address() as AddressInfo;
    const ask = `node -e "require('net').connect(${port},'127.0.0.1').on('data',()=>process.exit(1)).on('connect',()=>process.exit(1)).on('error',()=>process.exit(0))"`;
    const lines = [
      '[ -z "$TOKEN" ] && ! env | grep -q canary',
      `! ls ${world.folder} && ! ls ${process.cwd()}`,
      '! touch /usr/x && ! touch /etc/x',
      ask,
      '[ $(ls /sys/class/net 2>/dev/null | grep -cv lo) = 0 ]',
      'mkdir made; ln -s /etc made/link; setsid sleep 1000 & true',
    ];
    const manifest = `prepare: ${JSON.stringify(lines)}\ncache: [made]\n`;
    const source = await project({ '.superfleet.yaml': manifest });
    const spec = { kind: 'command' as const, argv: ['sh', '-c', 'test -d made'], secrets: ['TOKEN'] };
    const assignment = await world.assignment(spec, source, { secrets: { TOKEN: 'canary-of-the-secret' } });
    const { result, log } = await executor.run(assignment);
    assert.is(result.outcome, 'succeeded', log);
  } finally {
    server.close();
    await once(server, 'close');
  }
});

it('the owner allows a host, and the repository must ask for it: npm fetches through the proxy', async () => {
  const asked: string[] = [];
  const server = createServer((message, response) => {
    asked.push(message.url ?? '');
    response.end('data');
  }).listen(0, '127.0.0.1');
  await once(server, 'listening');
  const { port } = server.address() as AddressInfo;
  const hosts = [{ host: 'localhost', ports: [port], addresses: ['127.0.0.1', '::1'] }];
  const allowing = await Member.open(
    join(world.folder, 'allowing'),
    world.founder,
    'spare-3',
    executorKey,
    null,
    hosts,
  );
  const get = `unset no_proxy; node -e "const u=new URL(process.env.http_proxy);require('http').get({host:u.hostname,port:u.port,path:'http://localhost:${port}/x',headers:{host:'localhost:${port}'}},r=>process.exit(r.statusCode===200?0:9))"`;
  try {
    const of = (needs: string) =>
      project({ '.superfleet.yaml': `prepare: [${JSON.stringify(get)}]\nneeds: {network: [${needs}]}\n` });
    const good = await ran(await of('localhost'), 'true', {}, allowing);
    assert.is(good.result.outcome, 'succeeded', good.log);
    assert.equal(asked, ['/x']);
    const unasked = await ran(await of(''), 'true', {}, allowing);
    assert.equal([unasked.result.reason, unasked.result.fault], ['environment', 'task'], unasked.log);
    assert.equal(asked, ['/x']);
  } finally {
    await allowing.runner.close();
    server.close();
    server.closeAllConnections();
    await once(server, 'close');
  }
});

test.run();
