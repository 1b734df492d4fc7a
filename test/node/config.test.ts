import { mkdtemp, readdir, readFile, rm, stat, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { writeFileAtomic } from '../../node/atomic-file.ts';
import { checkConfig, readConfig, writeConfig } from '../../node/config.ts';
import type { SuperfleetError } from '../../protocol/errors.ts';

const PEER = `12D3KooW${'A'.repeat(44)}`;
const MESH = 'ab'.repeat(32);

const inFolder = (name: string, run: (folder: string) => Promise<void>): void =>
  test(name, async () => {
    const folder = await mkdtemp(join(tmpdir(), 'superfleet-config-'));
    await run(folder).finally(() => rm(folder, { recursive: true }));
  });

function refused(value: unknown): SuperfleetError {
  try {
    checkConfig(value);
  } catch (error) {
    return error as SuperfleetError;
  }
  return assert.unreachable(`taken: ${JSON.stringify(value)}`) as never;
}

test('every field has a default', () => {
  const config = checkConfig({});
  assert.equal(config, {
    kind: null,
    name: null,
    owner: null,
    port: null,
    listen: ['0.0.0.0'],
    mdns: true,
    slots: null,
    labels: {},
    policy: null,
    evictAfter: '1m',
    cpuWeight: 100,
    inhibitSleep: false,
    memoryShare: null,
    models: [],
    infer: true,
    endpoint: { on: false, port: 4711, token: null },
    agents: [],
    mcp: [],
    cloud: [],
    environment: { hosts: [], readOnly: [] },
    user: null,
    mesh: null,
    founder: null,
    heartbeat: '5s',
    lease: '15s',
    grace: '2s',
    scrub: '4MiB',
    plugins: {},
    compressSegments: true,
    logLevel: 'info',
  });
});

const CLOUD = { name: 'provider', models: [{ name: 'big', contextTokens: 32_768 }] };

for (const [field, value] of [
  ['port', { port: 70_000 }],
  ['port', { port: '4701' }],
  ['name', { name: 'not a name' }],
  ['slots', { slots: -1 }],
  ['logLevel', { logLevel: 'loud' }],
  ['listen', { listen: [] }],
  ['listen.0', { listen: ['example.org'] }],
  ['policy', { policy: 'sometimes' }],
  ['policy', { policy: 'idle=5s' }],
  ['labels.GPU', { labels: { GPU: 'yes' } }],
  [
    'founder.addresses.0',
    { kind: 'node', mesh: MESH, founder: { peer: PEER, addresses: ['10.0.0.1:4701'] } },
  ],
  ['ports', { ports: 4701 }],
  ['heartbeat', { heartbeat: 5000 }],
  ['heartbeat', { heartbeat: '20s' }],
  ['lease', { lease: 'soon' }],
  ['lease', { lease: '1s' }],
  ['grace', { grace: '1d' }],
  ['mcp.0.name', { mcp: [{ name: 'Docs', url: 'http://127.0.0.1/mcp' }] }],
  ['mcp.0', { mcp: [{ name: 'docs' }] }],
  ['mcp.0.url', { mcp: [{ name: 'docs', url: 'http://me:secret@127.0.0.1/mcp' }] }],
  ['mcp.0.url', { mcp: [{ name: 'docs', url: 'file:///etc/passwd' }] }],
  ['cloud.0.url', { cloud: [{ ...CLOUD, url: 'http://api.example.org' }] }],
  ['cloud.0.url', { cloud: [{ ...CLOUD, url: 'http://127.0.0.1.example.org' }] }],
  ['mcp.0', { mcp: [{ name: 'docs', argv: ['docs'], tools: { search: 'run' } }] }],
  ['mcp.0.readOnly.0', { mcp: [{ name: 'docs', argv: ['docs'], readOnly: ['/opt/../etc'] }] }],
  // Fields that do not go together.
  ['mcp', { mcp: ['a', 'b'].map((program) => ({ name: 'docs', argv: [program] })) }],
  ['founder', { kind: 'hub', founder: { peer: PEER, addresses: [] } }],
  ['mesh', { kind: 'node', founder: { peer: PEER, addresses: [] } }],
  ['founder', { kind: 'node', mesh: MESH }],
  ['listen', { listen: ['10.0.0.1', '10.0.0.1'] }],
  ['lease', { heartbeat: '3s', lease: '5s' }],
  ['grace', { lease: '10s', grace: '11s' }],
] as const) {
  test(`${JSON.stringify(value).slice(0, 60)} is refused naming ${field}, what was expected and what came`, () => {
    const error = refused(value);
    assert.is(error.code, 'SF_USAGE');
    assert.ok(error.message.includes(`: ${field}: expected `), error.message);
    assert.ok(error.expected!.startsWith(`${field}: `));
    assert.ok(error.got !== null && error.got !== '');
  });
}

inFolder('what is written is read back, and a missing file means the defaults', async (folder) => {
  const path = join(folder, 'config.json');
  assert.equal(await readConfig(path), checkConfig({}));
  const written = await writeConfig(path, { kind: 'hub', name: 'attic', port: 4711, labels: { gpu: 'yes' } });
  assert.equal(await readConfig(path), written);
  assert.is((await stat(path)).mode & 0o777, 0o600);
});

inFolder('an invalid config leaves the old one as it is', async (folder) => {
  const path = join(folder, 'config.json');
  await writeConfig(path, { name: 'attic' });
  await writeConfig(path, { name: 'no name' }).then(
    () => assert.unreachable(),
    (error) => assert.is(error.code, 'SF_USAGE'),
  );
  assert.is((await readConfig(path)).name, 'attic');
  for (const text of ['', '{', '[]', '{"name":"a"', 'x'.repeat(70_000)]) {
    await writeFile(path, text);
    const error: SuperfleetError = await readConfig(path).then(
      () => assert.unreachable() as never,
      (thrown) => thrown,
    );
    assert.is(error.code, 'SF_USAGE');
    assert.ok(error.message.includes(path));
  }
});

inFolder(
  'a small file is replaced whole, and a failure leaves the old one and nothing beside it',
  async (folder) => {
    const path = join(folder, 'state');
    await writeFileAtomic(path, 'old');
    await writeFileAtomic(path, 'new', { mode: 0o644 });
    assert.is(await readFile(path, 'utf8'), 'new');
    assert.is((await stat(path)).mode & 0o777, 0o644);
    // A folder cannot be replaced by a file.
    await writeFileAtomic(folder, 'x').then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'SF_FOLDER'),
    );
    assert.equal(await readdir(folder), ['state']);
    await writeFileAtomic(join(folder, 'none', 'state'), 'x').then(
      () => assert.unreachable(),
      (error) => assert.is(error.code, 'SF_FOLDER'),
    );
  },
);

test.run();
