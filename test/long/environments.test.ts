// limit: 1800 s
/**
 * What real projects depend on, prepared by real daemons, and their own test suites as checks: cold, warm, and with a broken line. On
 * request, since it fetches compilers (about 250 MB) with `apt-get download` and packages with npm:
 * `TOOLCHAINS=/opt/toolchains npm test -- long/environments`. The folder is made and filled, and kept for the next time; it
 * may not lie where a sandbox has something of its own, such as `/tmp`. Nothing is installed.
 */
import { execFile, execFileSync } from 'node:child_process';
import { lookup } from 'node:dns/promises';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { stringify } from 'yaml';
import type { TaskDetail } from '../../node/api/objects.ts';
import { formatSize } from '../../protocol/size.ts';
import { Fleet } from '../net/fleet.ts';
import { canRun } from '../node/attempt/harness.ts';
import { cobra, duplexify, heck, type RealProject, toolz } from './real-projects.ts';

const tools = process.env.TOOLCHAINS ?? '';
const lacks = tools.startsWith('/') ? canRun : 'TOOLCHAINS names no folder for compilers and packages';
if (lacks !== null) console.log(`skipped: ${lacks}`);
const it = lacks === null ? test : test.skip;

/** An index of packages: files of a folder, on an address of loopback that no client takes for its own machine. */
const host = '127.0.0.2';
let served = '';
const server = createServer(({ url = '/' }, response) => {
  const path = join(served, decodeURIComponent(new URL(url, 'http://index').pathname));
  try {
    const html = path.endsWith('/');
    const body = readFileSync(html ? join(path, 'index.html') : path);
    response.writeHead(200, { 'content-type': html ? 'text/html' : 'application/octet-stream' }).end(body);
  } catch {
    response.writeHead(404).end();
  }
});

/** Commands of a fleet are given less time than a compiler takes. */
const patiently = promisify(execFile);
let fleet: Fleet | null = null;
const projects: RealProject[] = [];
test.before(async () => {
  if (lacks !== null) return;
  mkdirSync(tools, { recursive: true });
  await new Promise<void>((resolve) => server.listen(0, host, resolve));
  const { port } = server.address() as AddressInfo;
  const registry = execFileSync('npm', ['config', 'get', 'registry'], {
    encoding: 'utf8',
    stdio: ['ignore', 'pipe', 'ignore'],
  });
  const name = new URL(registry).hostname;
  // A mirror in the house has an address that is not public: its owner says so.
  const addresses = (await lookup(name, { all: true })).map(({ address }) => address);
  const environment = {
    hosts: [
      { host: name, addresses },
      { host, ports: [port], addresses: [host] },
    ],
    readOnly: [tools],
  };
  const member = { slots: 1, environment };
  fleet = await Fleet.start({ hub: { slots: 0 }, members: { one: member, two: member } });
  served = join(fleet.home, 'served');
  const scratch = join(fleet.home, 'scratch');
  mkdirSync(scratch);
  projects.push(
    duplexify(scratch),
    toolz(tools, served, `http://${host}:${port}`),
    heck(tools),
    cobra(tools),
  );
});
test.after(async () => {
  server.close();
  await fleet?.close();
});

/** Names of what a member has prepared. */
const environments = (name: string): string[] => {
  const folder = join(fleet!.dir(name), 'environments');
  return existsSync(folder) ? readdirSync(folder).filter((entry) => entry !== '.runtime') : [];
};

function repositoryOf({ lay, manifest }: RealProject, folder: string): string {
  mkdirSync(folder);
  lay(folder);
  const { network, ...rest } = manifest;
  writeFileSync(join(folder, '.superfleet.yaml'), stringify({ ...rest, needs: { network } }));
  const git = (...args: string[]) =>
    execFileSync('git', ['-c', 'user.name=T', '-c', 'user.email=t@example.invalid', ...args], {
      cwd: folder,
    });
  git('init', '-q', '-b', 'main');
  git('add', '-A', '-f');
  git('commit', '-qm', 'as it was published');
  return folder;
}

/** A task on a project, with the manifest's checks; its seconds are from sending to the verified end. */
async function sent(cwd: string, line: string): Promise<{ task: TaskDetail; log: string; seconds: number }> {
  const began = performance.now();
  const words = ['task', 'run', '--wait', '--json', '--', 'sh', '-c', line];
  const done = await patiently(join(fleet!.program, 'scripts/mesh-hub'), words, {
    cwd,
    env: { ...process.env, MESH_HOME: fleet!.dir('hub') },
  }).then(
    ({ stdout }) => ({ code: 0, stdout, stderr: '' }),
    (error: { code: number; stdout: string; stderr: string }) => error,
  );
  const seconds = (performance.now() - began) / 1000;
  assert.ok(done.code === 0 || done.code === 1, done.stderr);
  const task = JSON.parse(done.stdout) as TaskDetail;
  const log = (await fleet!.hub(['task', 'logs', task.id])).stdout;
  return { task, log, seconds };
}

for (const [at, ecosystem] of ['npm', 'pip', 'cargo', 'go'].entries()) {
  it(`${ecosystem}: a real project is prepared once, its own suite is green and verified, and red with a broken line`, async () => {
    const project = projects[at]!;
    const before = environments('one');
    const cwd = repositoryOf(project, join(fleet!.home, ecosystem));
    const cold = await sent(cwd, project.touch);
    assert.is(cold.task.state, 'delivered', cold.log.slice(-4000));
    assert.is(cold.task.verified, true, 'its verifier prepared it for itself');
    assert.match(cold.log, 'superfleet: prepare: ');
    assert.match(cold.log, project.green);
    const warm = await sent(cwd, project.touch);
    assert.is(warm.task.verified, true, warm.log.slice(-4000));
    assert.match(warm.log, /prepare: .* is here already/);
    assert.match(warm.log, project.green);
    const red = await sent(cwd, project.break);
    assert.equal([red.task.state, red.task.reason], ['failed', 'check'], red.log.slice(-4000));
    assert.not.match(red.log, project.green);
    const made = environments('one').filter((name) => !before.includes(name));
    assert.equal([made.length, environments('two').length], [1, before.length + 1]);
    const file = join(fleet!.dir('one'), 'environments', made[0]!, 'made.json');
    const { bytes } = JSON.parse(readFileSync(file, 'utf8')) as { bytes: number };
    const took = [cold, warm].map(({ seconds }) => seconds.toFixed(1));
    console.log(`${project.name}: ${formatSize(bytes)} prepared, cold ${took[0]} s, warm ${took[1]} s`);
  });
}

test.run();
