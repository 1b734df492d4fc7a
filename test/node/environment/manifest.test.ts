import { mkdirSync, symlinkSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hostMatches, isHostPattern, plainHost } from '../../../node/environment/host-pattern.ts';
import { type Manifest, parseManifest, readManifest } from '../../../node/environment/manifest.ts';
import { manifestBytesMax } from '../../../node/environment/manifest-name.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { Folder } from '../sandbox/support.ts';

const parse = (text: string): Manifest => parseManifest(Buffer.from(text));

function refusal(bytes: Uint8Array | string): SuperfleetError {
  try {
    parseManifest(Buffer.from(bytes as string));
  } catch (error) {
    assert.instance(error, SuperfleetError);
    return error as SuperfleetError;
  }
  throw new Error(`was taken: ${String(bytes).slice(0, 80)}`);
}

test('a manifest that says everything is read as it stands', () => {
  const all = parse(`
# what this repository needs
prepare:
  - npm ci
  - npm run build
checks: [npm test]
checkFiles: ["test/**"]
limits: { memory: 2GiB, workspace: 512MiB, processes: 64, timeout: 5m, checkTimeout: 90s }
needs:
  tools: { node: ">=20 <25", python3: "*" }
  network: [registry.example.org, "*.example.org", 192.0.2.7]
cache: [node_modules, packages/a/node_modules]
`);
  assert.equal(all, {
    prepare: ['npm ci', 'npm run build'],
    checks: ['npm test'],
    checkFiles: ['test/**'],
    limits: {
      memoryBytes: 2 * 1024 ** 3,
      workspaceBytes: 512 * 1024 ** 2,
      processes: 64,
      timeoutMs: 300_000,
      checkTimeoutMs: 90_000,
    },
    needs: {
      tools: { node: '>=20 <25', python3: '*' },
      network: ['registry.example.org', '*.example.org', '192.0.2.7'],
    },
    cache: ['node_modules', 'packages/a/node_modules'],
  });
});

test('what is not said is null, and an empty file says nothing', () => {
  for (const text of ['', '# nothing\n', '---\n', '{}']) {
    const said = parse(text);
    assert.is(said.prepare, null, text);
    assert.is(said.cache, null);
    assert.is(said.needs.tools, null);
    assert.is(said.limits.memoryBytes, null);
  }
  assert.equal(parse('prepare: []').prepare, []);
});

const wrong: [text: string, message: RegExp, expected: RegExp][] = [
  ['prepare: [a]\nprepair: [b]', /line 2, has no field `prepair`/, /one of prepare, checks, checkFiles/],
  ['\nneeds:\n  tools: {}\n  net: []', /line 4, has no field `needs.net`/, /one of tools, network/],
  ['limits:\n  memory: 2GiB\n  cpu: 3', /line 3, has no field `limits.cpu`/, /memory, workspace/],
  ['__proto__: 1', /line 1, has no field `__proto__`/, /prepare/],
  ['checks: npm test', /line 1, has a wrong `checks`/, /list of at most 64/],
  ['checks:\n - ok\n - 7', /line 3, has a wrong `checks.1`/, /command lines/],
  ['checks:\n - ok\n - ""', /line 3/, /1 to 4096/],
  ['prepare:\n', /wrong `prepare`/, /command lines/],
  ['limits: { memory: 2 }', /wrong `limits.memory`/, /2GiB|4GiB/],
  ['limits: { memory: 2 GB }', /wrong `limits.memory`/, /4GiB/],
  ['limits: { processes: 0 }', /wrong `limits.processes`/, /1 to 65536/],
  ['limits: { timeout: 0ms }', /wrong `limits.timeout`/, /at least 1ms/],
  ['limits: []', /wrong `limits`/, /memory/],
  ['needs: { tools: { node: 20 } }', /wrong `needs.tools.node`/, />=20/],
  ['needs: { tools: { NODE: "*" } }', /needs.tools/, /by name/],
  ['needs: { network: ["http://x.org"] }', /wrong `needs.network.0`/, /registry/],
  ['needs: { network: ["*"] }', /wrong `needs.network.0`/, /registry/],
  ['cache: [../x]', /wrong `cache.0`/, /without/],
  ['cache: [/etc]', /wrong `cache.0`/, /paths in the repository/],
  ['cache: [.git/hooks]', /wrong `cache.0`/, /paths in the repository/],
  ['cache: ["."]', /wrong `cache.0`/, /paths in the repository/],
  ['checkFiles: [../a]', /wrong `checkFiles.0`/, /globs/],
  ['- a', /is not a manifest/, /fields: prepare/],
  ['text', /is not a manifest/, /fields/],
  ['a: [', /line 1, is not YAML/, /YAML/],
  ['checks: [a]\nchecks: [b]', /line 2, is not YAML/, /YAML/],
  ['? [a]\n: b', /is not YAML/, /YAML/],
  ['a: 1\n---\nb: 2', /is not YAML/, /YAML/],
  ['checks: [*gone]', /is not/, /./],
  ['a: "\\q"', /is not YAML/, /YAML/],
];
for (const [text, message, expected] of wrong) {
  test(`${JSON.stringify(text)} is refused with the field, its line and what was expected`, () => {
    const error = refusal(text);
    assert.is(error.code, 'SF_USAGE');
    assert.match(error.message, message);
    if (expected.source !== '.') assert.match(error.expected ?? '', expected);
    assert.match(error.hint ?? '', /superfleet\.yaml/);
  });
}

test('what is too large, not UTF-8 or blows up is refused, and soon (promise 18)', () => {
  const bomb = ['a: &a [x,x,x,x,x,x,x,x,x]'];
  for (let at = 1; at < 9; at += 1) {
    const [now, before] = ['abcdefghi'[at], 'abcdefghi'[at - 1]];
    bomb.push(`${now}: &${now} [${Array(9).fill(`*${before}`).join(',')}]`);
  }
  assert.match(refusal(`#${'x'.repeat(manifestBytesMax)}`).message, /too large/);
  assert.match(refusal(Buffer.from([0x61, 0xff, 0xfe])).message, /not UTF-8/);
  assert.match(refusal(bomb.join('\n')).got ?? '', /alias/i);
  assert.ok(parse(`#${'x'.repeat(manifestBytesMax - 1)}`));
  const began = performance.now();
  for (const text of [
    '['.repeat(65_000),
    '{'.repeat(60_000),
    '- '.repeat(30_000),
    '? '.repeat(30_000),
    '&a '.repeat(20_000),
    ':'.repeat(65_000),
    Array.from({ length: 8000 }, (_, at) => `k${at}: 1`).join('\n'),
    'checks: &a [*a]',
    'a: &a {b: *a}',
    '['.repeat(4000),
  ]) {
    refusal(text);
  }
  assert.ok(performance.now() - began < 5_000);
});

test('whatever the bytes are, nothing but a SuperfleetError is thrown', () => {
  const scrap = fc.constantFrom(
    ...[
      'prepare',
      'checks',
      'needs',
      'limits',
      ': ',
      '\n',
      '  ',
      '- ',
      '[',
      ']',
      '{',
      '}',
      '&a ',
      '*a',
      '!!',
      '"',
      "'",
      '|',
      '>',
      '%',
      '---',
      '<<',
      '0x',
      '~',
      '\t',
      '?',
      '#',
      '__proto__',
      'constructor',
      'null',
      ',',
    ],
  );
  const holds = (bytes: Uint8Array): void => {
    try {
      parseManifest(bytes);
    } catch (error) {
      assert.instance(error, SuperfleetError);
      assert.is((error as SuperfleetError).code, 'SF_USAGE');
    }
  };
  fc.assert(
    fc.property(fc.array(scrap, { maxLength: 60 }), (parts) => holds(Buffer.from(parts.join('')))),
    { numRuns: 1500 },
  );
  fc.assert(fc.property(fc.uint8Array({ maxLength: 200 }), holds), { numRuns: 500 });
  fc.assert(
    fc.property(fc.jsonValue(), (value) => holds(Buffer.from(JSON.stringify(value)))),
    { numRuns: 500 },
  );
});

test('a manifest is read from its file, and never through a link', async () => {
  using folder = new Folder('manifest');
  const root = join(folder.path, 'repository');
  mkdirSync(root);
  assert.is(await readManifest(root), null);
  writeFileSync(join(folder.path, 'outside'), 'checks: [outside]');
  symlinkSync('../outside', join(root, '.superfleet.yaml'));
  assert.is(await readManifest(root), null);
  using other = new Folder('manifest');
  writeFileSync(join(other.path, '.superfleet.yaml'), 'checks: [inside]');
  assert.equal((await readManifest(other.path))?.checks, ['inside']);
  writeFileSync(join(other.path, '.superfleet.yaml'), Buffer.alloc(100_000, 0x23));
  await readManifest(other.path).then(
    () => assert.unreachable(),
    (error) => assert.match(error.message, /too large/),
  );
});

test('a pattern admits its host, a starred one every name below', () => {
  for (const good of ['a.b', '*.a.b', 'localhost', '127.0.0.1', '::1', 'a-b.c_d.e'])
    assert.ok(isHostPattern(good), good);
  for (const bad of [
    '',
    '*',
    'a.*',
    '*a.b',
    'A.b',
    'a..b',
    '.a',
    'a.',
    'a:1',
    'a/b',
    '1.2.3',
    '-a.b',
    `${'a.'.repeat(130)}b`,
  ])
    assert.not(isHostPattern(bad), bad);
  assert.ok(hostMatches('a.b', 'a.b'));
  assert.not(hostMatches('a.b', 'x.a.b'));
  assert.ok(hostMatches('*.a.b', 'x.a.b'));
  assert.ok(hostMatches('*.a.b', 'y.x.a.b'));
  assert.not(hostMatches('*.a.b', 'a.b'));
  assert.not(hostMatches('*.a.b', 'xa.b'));
  assert.is(plainHost('A.B.'), 'a.b');
  assert.is(plainHost('[::1]'), '::1');
});

test.run();
