// limit: 120 s

import { createHash } from 'node:crypto';
import { once } from 'node:events';
import {
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  statSync,
  symlinkSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:http';
import type { AddressInfo } from 'node:net';
import { dirname, join } from 'node:path';
import { create } from 'tar';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type EnvironmentPlan, planEnvironment } from '../../../node/environment/plan.ts';
import { PrepareFailure, type PrepareRequest } from '../../../node/environment/prepare.ts';
import type { ProxyEvent } from '../../../node/environment/proxy.ts';
import { foreignLibraries } from '../../../node/environment/runtime.ts';
import { EnvironmentStore } from '../../../node/environment/store.ts';
import { removeTree } from '../../../node/git/remove-tree.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { probe } from '../../../node/sandbox/probe.ts';
import { dropRoot } from '../../unprivileged.ts';
import { Folder, processesWith, run, until } from '../sandbox/support.ts';

dropRoot();
const sandbox = createSandbox();
const { works, lacks } = await probe(sandbox);
if (!works)
  console.log(
    `prepare.test.ts: skipped, there is no sandbox here: ${lacks.map(({ what }) => what).join('; ')}`,
  );
const real = works ? test : test.skip;

const MiB = 1024 ** 2;
const limits = { memoryBytes: 1024 * MiB, processes: 128, diskBytes: 512 * MiB, wallMs: 60_000 };
const signal = (): AbortSignal => new AbortController().signal;

function write(root: string, files: Record<string, string | Buffer>): void {
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
}

/** A checkout, a store beside it, and what the log of its preparations said. */
class Place implements AsyncDisposable {
  readonly folder = new Folder('environment');
  readonly checkout = join(this.folder.path, 'checkout');
  readonly environments = join(this.folder.path, 'environments');
  output = '';

  constructor(files: Record<string, string | Buffer>) {
    mkdirSync(this.checkout);
    write(this.checkout, files);
  }

  store(bytesMax?: number): Promise<EnvironmentStore> {
    return EnvironmentStore.open(this.environments, sandbox, bytesMax);
  }

  async plan(): Promise<EnvironmentPlan> {
    return planEnvironment(this.checkout, { node: '20', npm: '10' });
  }

  async request(more: Partial<PrepareRequest> = {}): Promise<PrepareRequest> {
    const { recipe, digest } = await this.plan();
    const log = {
      say: async (line: string) => {
        this.output += `${line}\n`;
      },
      write: async (bytes: Uint8Array) => {
        this.output += Buffer.from(bytes).toString();
      },
    };
    return { checkout: this.checkout, recipe, digest, allowed: [], limits, log, ...more };
  }

  /** Nothing but whole environments. */
  left(): string[] {
    return readdirSync(this.environments).filter(
      (name) => !/^[0-9a-f]{64}$/.test(name) && name !== '.runtime',
    );
  }

  async [Symbol.asyncDispose](): Promise<void> {
    if (existsSync(this.environments)) assert.equal(this.left(), []);
    await removeTree(this.folder.path);
  }
}

const simple = (prepare: string, cache = '[made]'): Record<string, string> => ({
  '.superfleet.yaml': `prepare:\n  - ${JSON.stringify(prepare)}\ncache: ${cache}\n`,
});

const failure = async (work: Promise<unknown>): Promise<PrepareFailure> => {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown,
  );
  assert.instance(error, PrepareFailure);
  return error as PrepareFailure;
};

real(
  'a real npm project with a dependency in a folder is prepared without a network, and runs from the copy and from the mount',
  async () => {
    await using place = new Place({
      '.npmrc': 'install-links=true\n',
      'package.json': JSON.stringify({ name: 'app', version: '1.0.0', dependencies: { dep: 'file:dep' } }),
      'package-lock.json': JSON.stringify({
        name: 'app',
        version: '1.0.0',
        lockfileVersion: 3,
        requires: true,
        packages: {
          '': { name: 'app', version: '1.0.0', dependencies: { dep: 'file:dep' } },
          'node_modules/dep': { version: '1.2.3', resolved: 'file:dep' },
        },
      }),
      'dep/package.json': JSON.stringify({ name: 'dep', version: '1.2.3', main: 'index.js' }),
      'dep/index.js': 'module.exports = "from dep";',
      'app.js': 'console.log(require("dep"));',
    });
    const store = await place.store();
    const request = await place.request();
    assert.equal(request.recipe.prepare, ['npm ci --no-audit --no-fund']);
    const prepared = await store.prepare(request, signal());
    assert.match(place.output, /added 1 package/);
    assert.not(existsSync(join(place.checkout, 'node_modules')));

    const app = ['node', 'app.js'];
    const mounted = await run(sandbox, app, { workspace: place.checkout, mounts: prepared.mounts() });
    assert.is(mounted.out, 'from dep\n', mounted.err);
    const written = await run(sandbox, ['touch', 'node_modules/x'], {
      workspace: place.checkout,
      mounts: prepared.mounts(),
    });
    assert.is.not(written.exitCode, 0);

    await prepared.copyInto(place.checkout, signal());
    const copied = await run(
      sandbox,
      ['sh', '-c', 'node app.js && echo changed > node_modules/dep/index.js'],
      { workspace: place.checkout },
    );
    assert.is(copied.out, 'from dep\n', copied.err);
    const kept = prepared.mounts()[0]?.from ?? '';
    assert.is(readFileSync(join(kept, 'dep/index.js'), 'utf8'), 'module.exports = "from dep";');
    assert.is(statSync(join(kept, 'dep/index.js')).nlink, 1);
    prepared.release();
  },
);

real(
  'npm fetches from a server that the owner allows through the forwarder and the proxy, and from no other',
  async () => {
    using tarball = new Folder('tarball');
    write(tarball.path, {
      'package/package.json': '{"name":"dep","version":"1.0.0"}',
      'package/index.js': 'module.exports = 7;',
    });
    await create({ gzip: true, cwd: tarball.path, file: join(tarball.path, 'dep.tgz') }, ['package']);
    const bytes = readFileSync(join(tarball.path, 'dep.tgz'));
    const asked: string[] = [];
    const server = createServer((message, response) => {
      asked.push(`${message.headers.host}${message.url}`);
      response.end(bytes);
    }).listen(0, '127.0.0.1');
    await once(server, 'listening');
    const { port } = server.address() as AddressInfo;
    const resolved = `http://localhost.localdomain:${port}/dep/-/dep-1.0.0.tgz`;
    const site = `http://127.0.0.1:${port}`;
    const integrity = `sha512-${createHash('sha512').update(bytes).digest('base64')}`;
    const project = (from: string): Record<string, string> => ({
      '.npmrc': `registry=${site}/\nfetch-retries=0\n`,
      'package.json': JSON.stringify({ name: 'app', version: '1.0.0', dependencies: { dep: '1.0.0' } }),
      'package-lock.json': JSON.stringify({
        name: 'app',
        version: '1.0.0',
        lockfileVersion: 3,
        packages: {
          '': { name: 'app', version: '1.0.0', dependencies: { dep: '1.0.0' } },
          'node_modules/dep': { version: '1.0.0', resolved: from, integrity },
        },
      }),
      'app.js': 'console.log(require("dep"))',
    });
    const name = 'localhost';
    await using place = new Place(project(resolved.replace('localhost.localdomain', name)));
    const events: ProxyEvent[] = [];
    const store = await place.store();
    // Not by `no_proxy`: npm would go to the loopback of its own sandbox.
    const lines = ['unset no_proxy; npm ci --no-audit --no-fund'];
    const request = await place.request({
      allowed: [{ host: name, ports: [port], addresses: ['127.0.0.1'] }],
      onNetwork: (event) => events.push(event),
    });
    request.recipe.prepare = lines;
    const prepared = await store.prepare(request, signal());
    assert.equal(asked, [`${name}:${port}/dep/-/dep-1.0.0.tgz`]);
    assert.ok(events.some((event) => event.kind === 'closed' && event.receivedBytes > bytes.length));
    const app = await run(sandbox, ['node', 'app.js'], {
      workspace: place.checkout,
      mounts: prepared.mounts(),
    });
    assert.is(app.out, '7\n', app.err);
    prepared.release();

    await using other = new Place(project(resolved));
    const elsewhere = await other.request({
      allowed: [{ host: name, ports: [port], addresses: ['127.0.0.1'] }],
    });
    const refused = await failure((await other.store()).prepare(elsewhere, signal()));
    assert.match(
      refused.message,
      /localhost\.localdomain is not among the hosts.*owner of this machine may allow/,
    );
    assert.is(asked.length, 1);

    // A connection that fails (to where nothing listens) looks to npm as a network that may come back.
    await using third = new Place({
      ...project(`https://${name}:${port}/dep.tgz`),
      '.npmrc': `registry=${site}/\n`,
    });
    const allowed = [{ host: name, ports: [port] }];
    const began = performance.now();
    const waited = await failure((await third.store()).prepare(await third.request({ allowed }), signal()));
    assert.match(waited.message, /npm ci.* ended with 1/);
    assert.ok(performance.now() - began < 45_000, 'npm by itself waits for a minute');
    server.close();
  },
);

real('inside there is no network, no secret and a home of its own', async () => {
  await using place = new Place(
    simple(
      'mkdir made "$HOME/kept"; env > made/env; cat /proc/net/dev > made/net; id -u > made/uid; echo home > "$HOME/kept/file"',
    ),
  );
  process.env.SUPERFLEET_TEST_SECRET = 'the secret';
  const store = await place.store();
  const request = await place.request();
  request.recipe.makes.push({ in: 'home', path: 'kept' });
  const prepared = await store.prepare(request, signal());
  const [made, kept] = prepared.mounts();
  const read = (name: string): string => readFileSync(join(made?.from ?? '', name), 'utf8');
  assert.not(read('env').includes('the secret'));
  assert.not(/^\w*_proxy=/im.test(read('env')));
  assert.equal(
    read('net')
      .match(/^\s*[^\s:]+(?=:)/gm)
      ?.map((name) => name.trim()),
    ['lo'],
  );
  assert.is.not(read('uid').trim(), '0');
  assert.is(kept?.to, '/home/sandbox/kept');
  assert.is(prepared.mounts('home').length, 1);
  const seen = await run(sandbox, ['sh', '-c', 'cat "$HOME/kept/file"'], {
    workspace: place.checkout,
    mounts: prepared.mounts('home'),
  });
  assert.is(seen.out, 'home\n', seen.err);
  prepared.release();
  delete process.env.SUPERFLEET_TEST_SECRET;
});

real(
  'the forwarder sets the variables it is told, passes the exit code on, and says what is missing',
  async () => {
    await using place = new Place({});
    const { runtime } = await place.store();
    const socket = join(place.folder.path, 'none.sock');
    writeFileSync(socket, '');
    const forward = (argv: string[]): ReturnType<typeof run> => {
      const { argv: whole, mounts } = runtime.forwarded(
        { socket, port: 4321, variables: ['MODEL_URL', 'OTHER'] },
        argv,
      );
      return run(sandbox, whole, { mounts });
    };
    const said = await forward(['sh', '-c', 'echo "$MODEL_URL $OTHER"; exit 7']);
    assert.is(said.out, 'http://127.0.0.1:4321 http://127.0.0.1:4321\n', said.err);
    assert.is(said.exitCode, 7);
    assert.is((await forward(['sh', '-c', 'kill -TERM $$'])).exitCode, 143);
    const missing = await forward(['no-such-program']);
    assert.is(missing.exitCode, 127);
    assert.match(missing.err, /failed to execute no-such-program: /);
  },
);

test('libraries outside /usr are found in what this process has mapped', () => {
  const maps = [
    '7f00-7f01 r-xp 00000000 fd:00 11 /nix/store/x/lib/libnode.so.127',
    '7f00-7f01 r-xp 00000000 fd:00 12 /usr/lib/x86_64-linux-gnu/libc.so.6',
    '7f00-7f01 r-xp 00000000 fd:00 13 /opt/node/bin/node',
    '7f00-7f01 r--p 00000000 fd:00 14 /opt/data.so',
    '7f00-7f01 r-xp 00000000 fd:00 15 /app/build/classic.node',
    '7f00-7f01 r-xp 00000000 fd:00 16 /nix/store/y/lib/ld-linux-x86-64.so.2',
    '7fff-7fff r-xp 00000000 00:00 0 [vdso]',
  ].join('\n');
  assert.equal(foreignLibraries(maps), [
    '/nix/store/x/lib/libnode.so.127',
    '/nix/store/y/lib/ld-linux-x86-64.so.2',
  ]);
});

real('two at once for one digest make one, and later ones find it', async () => {
  await using place = new Place(simple('mkdir made; cat /proc/sys/kernel/random/uuid > made/id'));
  const store = await place.store();
  const request = await place.request();
  const both = await Promise.all([store.prepare(request, signal()), store.prepare(request, signal())]);
  assert.is(place.output.match(/prepare: mkdir/g)?.length, 1);
  const later = await (await place.store()).prepare(request, signal());
  assert.is(place.output.match(/prepare: mkdir/g)?.length, 1);
  assert.equal(later.mounts(), both[0]?.mounts());
  for (const each of [...both, later]) each.release();
});

real(
  'a line that fails, takes too long or too much leaves nothing, and the next try is a fresh one',
  async () => {
    await using place = new Place(simple('mkdir made; echo said; exit 3'));
    const store = await place.store();
    const failed = await failure(store.prepare(await place.request(), signal()));
    assert.is(failed.exitCode, 3);
    assert.match(failed.message, /`mkdir made; echo said; exit 3` ended with 3/);
    assert.match(place.output, /said/);
    assert.is(await store.use((await place.plan()).digest), null);
    for (const [line, bound, killedBy] of [
      ['sleep 1000', { wallMs: 300 }, 'timeout'],
      [
        'head -c 40000000 /dev/zero > big; head -c 40000000 /dev/zero > "$HOME/big"; sleep 1000',
        { diskBytes: 60 * MiB },
        'disk',
      ],
    ] as const) {
      write(place.checkout, simple(line));
      const ended = await failure(
        store.prepare(await place.request({ limits: { ...limits, ...bound } }), signal()),
      );
      assert.is(ended.killedBy, killedBy);
    }
    assert.equal(
      readdirSync(place.environments).filter((name) => name !== '.runtime'),
      [],
    );
  },
);

real('who gives up is told at once; only the last ends the work, with all its processes', async () => {
  const marker = `7${process.pid}`;
  await using place = new Place(simple(`mkdir made; sleep ${marker}`));
  const store = await place.store();
  const request = await place.request();
  const [first, second] = [new AbortController(), new AbortController()];
  const one = store.prepare(request, first.signal);
  const two = store.prepare(request, second.signal);
  const sleeping = (): number => processesWith(`sleep\0${marker}`).length;
  await until('the line runs', () => sleeping() > 0, 20_000);
  first.abort(new Error('one is gone'));
  await one.then(
    () => assert.unreachable(),
    (error) => assert.is(error.message, 'one is gone'),
  );
  assert.ok(sleeping() > 0);
  second.abort(new Error('two is gone'));
  await two.then(
    () => assert.unreachable(),
    (error) => assert.is(error.message, 'two is gone'),
  );
  assert.is(sleeping(), 0);
  assert.equal(place.left(), []);
});

real('what a crash left is removed at open, what is whole stays', async () => {
  await using place = new Place(simple('mkdir made; echo x > made/x'));
  const request = await place.request();
  (await (await place.store()).prepare(request, signal())).release();
  write(place.environments, {
    '.new-1/keep/0/x': '',
    '.trash-1/x': '',
    [`${'a'.repeat(64)}/0/x`]: '',
    'stray/x': '',
    [`${'b'.repeat(64)}/made.json`]: '{"format":1}',
  });
  const store = await place.store();
  assert.equal(readdirSync(place.environments), [request.digest]);
  const again = await store.use(request.digest);
  assert.ok(again);
  again?.release();
});

real('past its bytes the least recently used goes, but never one in use', async () => {
  await using place = new Place({});
  const store = await place.store(3 * MiB);
  const make = async (name: string): Promise<Awaited<ReturnType<typeof store.prepare>>> => {
    write(place.checkout, simple(`mkdir made; head -c 1200000 /dev/urandom > made/${name}`));
    return store.prepare(await place.request(), signal());
  };
  const a = await make('a');
  const b = await make('b');
  b.release();
  const c = await make('c');
  // `a` is older than `b`, and in use.
  assert.equal(readdirSync(place.environments).sort(), [a.digest, c.digest].sort());
  assert.is(await store.use(b.digest), null);
  a.release();
  a.release();
  c.release();
  const d = await make('d');
  d.release();
  assert.not(existsSync(join(place.environments, a.digest)));
  // One that is asked for while another needs its room is there whole, or not given.
  const [e, asked] = await Promise.all([make('e'), store.use(d.digest)]);
  assert.ok(asked === null || existsSync(asked.mounts()[0]?.from ?? ''));
  asked?.release();
  e.release();
  write(place.checkout, simple('mkdir made; head -c 4000000 /dev/urandom > made/large'));
  await store.prepare(await place.request(), signal()).then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'SF_FULL'),
  );
});

real(
  'nothing outside is kept, copied over or written through, whatever the lines and the checkout hold',
  async () => {
    await using place = new Place(
      simple(
        'ln -s /etc made; mkdir -p real/sub; echo x > real/sub/x; chmod 0555 real/sub real',
        '[made, real, "dir/inner"]',
      ),
    );
    symlinkSync('/etc', join(place.checkout, 'dir'));
    const store = await place.store();
    const prepared = await store.prepare(await place.request(), signal());
    assert.equal(
      prepared.mounts().map(({ to }) => to),
      ['/workspace/real'],
    );
    assert.match(place.output, /no folder or file at made/);
    prepared.release();

    await using other = new Place(simple('mkdir -p a/b; echo x > a/b/x', '[a/b]'));
    const good = await (await other.store()).prepare(await other.request(), signal());
    const outside = join(other.folder.path, 'outside');
    mkdirSync(outside);
    symlinkSync(outside, join(other.checkout, 'a'));
    await good.copyInto(other.checkout, signal()).then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'SF_FOLDER'),
    );
    assert.equal(readdirSync(outside), []);
    good.release();
  },
);

real('times stay in the copy, and what was in its place makes room', async () => {
  await using place = new Place(
    simple('mkdir made; echo x > made/x; touch -d 2001-02-03 made/x; ln -s x made/link'),
  );
  const prepared = await (await place.store()).prepare(await place.request(), signal());
  symlinkSync('/etc', join(place.checkout, 'made'));
  await prepared.copyInto(place.checkout, signal());
  assert.ok(lstatSync(join(place.checkout, 'made')).isDirectory());
  assert.ok(lstatSync(join(place.checkout, 'made/link')).isSymbolicLink());
  assert.is(statSync(join(place.checkout, 'made/x')).mtime.getFullYear(), 2001);
  assert.ok(existsSync('/etc/passwd'));
  prepared.release();
});

test('the digest follows what the lines read, and nothing else', async () => {
  await using place = new Place({
    'go.mod': 'module x',
    'main.go': 'package main',
    'tools/setup.sh': 'true',
  });
  const digest = async (): Promise<string> => (await place.plan()).digest;
  const first = await digest();
  write(place.checkout, { 'main.go': 'package other' });
  assert.is(await digest(), first);
  write(place.checkout, { 'go.sum': 'a line' });
  const second = await digest();
  assert.is.not(second, first);
  write(place.checkout, { '.superfleet.yaml': 'prepare: [sh tools/setup.sh]' });
  const third = await digest();
  write(place.checkout, { 'tools/setup.sh': 'false' });
  assert.is.not(await digest(), third);
});

test.run();
