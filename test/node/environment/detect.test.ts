import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { detect, pathsNamed, type Recipe, recipeOf } from '../../../node/environment/detect.ts';
import { parseManifest } from '../../../node/environment/manifest.ts';

const of = (files: Record<string, string>): Recipe => detect(Object.keys(files), files);
const paths = (recipe: Recipe): string[] => recipe.makes.map((made) => `${made.in}:${made.path}`);

const table: [files: Record<string, string>, prepare: string[], makes: string[], network: string[] | null][] =
  [
    [{ 'README.md': '' }, [], [], []],
    [{ 'package.json': '{}' }, [], [], []],
    [{ 'package-lock.json': '{}' }, [], [], []],
    [
      { 'package.json': '{}', 'package-lock.json': '{}' },
      ['npm ci --no-audit --no-fund'],
      ['workspace:node_modules'],
      null,
    ],
    [
      { 'package.json': '{}', 'npm-shrinkwrap.json': 'no JSON' },
      ['npm ci --no-audit --no-fund'],
      ['workspace:node_modules'],
      null,
    ],
    [
      { 'package.json': '{}', 'pnpm-lock.yaml': '' },
      ['pnpm install --frozen-lockfile'],
      ['workspace:node_modules'],
      null,
    ],
    [
      { 'package.json': '{}', 'pnpm-lock.yaml': '', 'package-lock.json': '{}' },
      ['npm ci --no-audit --no-fund'],
      ['workspace:node_modules'],
      null,
    ],
    [
      { 'package.json': '{"packageManager": "pnpm@9.1.0"}', 'pnpm-lock.yaml': '', 'package-lock.json': '{}' },
      ['pnpm install --frozen-lockfile'],
      ['workspace:node_modules'],
      null,
    ],
    [{ 'pyproject.toml': '[tool.black]\n' }, [], [], []],
    [{ 'Cargo.toml': '' }, [], [], []],
    [{ 'Cargo.toml': '', 'Cargo.lock': '' }, ['cargo fetch --locked'], ['home:.cargo'], null],
    [{ 'go.mod': '' }, ['go mod download'], ['home:go/pkg/mod'], null],
    [{ 'go.mod': '', vendor: '' }, [], [], []],
  ];
for (const [files, prepare, makes, network] of table) {
  test(`${Object.keys(files).join(', ')}: ${prepare.join(', ') || 'nothing to prepare'}`, () => {
    const found = of(files);
    assert.equal(found.prepare, prepare);
    assert.equal(paths(found), makes);
    assert.equal(found.network, network);
  });
}

test('lists of requirements are installed into a venv together, and what they include is read', () => {
  const found = of({
    'requirements.txt': '-r base/all.txt\n-c ../outside.txt\n--constraint=pins.txt\nattrs',
    'requirements-dev.txt': 'pytest',
  });
  assert.equal(found.prepare, [
    'python3 -m venv .venv',
    '.venv/bin/pip install --disable-pip-version-check -r requirements.txt -r requirements-dev.txt',
  ]);
  assert.equal(found.reads.slice(0, 4), [
    'requirements.txt',
    'requirements-dev.txt',
    'base/all.txt',
    'pins.txt',
  ]);
  assert.equal(paths(found), ['workspace:.venv']);
});

test('a Python package is installed where it stands', () => {
  for (const files of [
    { 'pyproject.toml': '[project]\nname = "x"' },
    { 'pyproject.toml': 'x\n[build-system]\n' },
    { 'setup.py': '' },
  ] as Record<string, string>[]) {
    assert.equal(of(files).prepare.at(-1), '.venv/bin/pip install --disable-pip-version-check -e .');
    assert.ok(of(files).reads.includes('pyproject.toml'));
  }
});

test('workspaces of npm and pnpm are read and their own node_modules kept', () => {
  const lock = JSON.stringify({
    packages: {
      '': {},
      'packages/a': {},
      'packages/a/node_modules/x': {},
      'node_modules/y': {},
      'node_modules/y/node_modules/z': {},
      '../out': {},
      '/etc': {},
    },
  });
  const npm = of({ 'package.json': '{}', 'package-lock.json': lock });
  assert.equal(paths(npm), ['workspace:node_modules', 'workspace:packages/a/node_modules']);
  assert.equal(npm.reads, ['package-lock.json', 'package.json', '.npmrc', 'packages/a/package.json']);
  const yaml =
    "lockfileVersion: '9.0'\n\nimporters:\n\n  .:\n    dependencies:\n      x:\n        version: 1\n\n  packages/a:\n    dependencies: {}\n\n  ../out:\n    a: 1\n\npackages:\n\n  y@1.0.0:\n    a: b\n";
  const pnpm = of({ 'package.json': '{}', 'pnpm-lock.yaml': yaml });
  assert.equal(paths(pnpm), ['workspace:node_modules', 'workspace:packages/a/node_modules']);
});

test('several ecosystems are prepared one after the other', () => {
  const both = of({
    'package.json': '{}',
    'package-lock.json': '{}',
    'Cargo.toml': '',
    'Cargo.lock': '',
    'go.mod': '',
  });
  assert.is(both.prepare.length, 3);
  assert.equal(both.tools, ['node', 'npm', 'cargo', 'go']);
});

test('the manifest goes before what was detected, field by field', () => {
  const detected = of({ 'package.json': '{}', 'package-lock.json': '{}', 'go.mod': '' });
  const with_ = (text: string): Recipe => recipeOf(parseManifest(Buffer.from(text)), detected);
  assert.equal(recipeOf(null, detected), detected);
  assert.equal(with_('checks: [x]'), detected);
  assert.equal(with_('prepare: []').prepare, []);
  const own = with_(
    'prepare: ["sh tools/setup.sh --from=conf/a.json", "make -C ../x"]\nneeds: {network: [a.b], tools: {make: "*"}}',
  );
  assert.equal(own.prepare.length, 2);
  assert.ok(
    own.reads.includes('tools/setup.sh') &&
      own.reads.includes('conf/a.json') &&
      own.reads.includes('package-lock.json'),
  );
  assert.equal(own.network, ['a.b']);
  assert.ok(own.tools.includes('make') && own.tools.includes('npm'));
  assert.equal(paths(own), paths(detected));
  assert.equal(with_('needs: {network: []}').network, []);
  assert.equal(paths(with_('cache: [out/a, out, out/a/b, outer]')), [
    'workspace:out',
    'workspace:outer',
    'home:go/pkg/mod',
  ]);
});

test('words of a line are paths only inside the repository', () => {
  assert.equal(pathsNamed('./a/b.sh "c d" --x=e.json > /tmp/f ../g h/ https://i.j/k $L -r m.txt; n'), [
    'a/b.sh',
    'c',
    'd',
    'e.json',
    'm.txt',
    'n',
  ]);
  fc.assert(
    fc.property(fc.string({ unit: fc.constantFrom('a', '/', '.', '-', ' ', '=', '"', '~', '\0') }), (line) =>
      pathsNamed(line).every(
        (path) => !path.startsWith('/') && !path.split('/').includes('..') && !path.includes('\0'),
      ),
    ),
    { numRuns: 1000 },
  );
});

test('whatever a repository holds, nothing is thrown and nothing made outside of it', () => {
  const name = fc.constantFrom(
    'package.json',
    'package-lock.json',
    'pnpm-lock.yaml',
    'requirements.txt',
    'pyproject.toml',
    'setup.py',
    'Cargo.toml',
    'Cargo.lock',
    'go.mod',
    '__proto__',
  );
  const text = fc.oneof(
    fc.string(),
    fc.constantFrom(
      '{"packages":{"../x/node_modules/y":{},"a/../../b":{},".git/node_modules/c":{}}}',
      'importers:\n  ../a:\n',
      '-r /etc/passwd\n-r ../x',
      '{"packages":[]}',
      'null',
    ),
  );
  fc.assert(
    fc.property(fc.dictionary(name, text), (files) => {
      const found = of(files);
      for (const path of [...found.makes.map((made) => made.path), ...found.reads]) {
        assert.not(path.startsWith('/'));
        assert.not(path.split('/').some((part) => part === '..' || part === '.git' || part === ''));
      }
    }),
    { numRuns: 800 },
  );
});

test('a hostile lock file costs no time (promise 18)', () => {
  const began = performance.now();
  of({
    'package.json': '"packageManager"'.repeat(20_000),
    'pnpm-lock.yaml': `importers:\n${'  a:\n'.repeat(200_000)}`,
  });
  of({ 'requirements.txt': '-r '.repeat(300_000), 'pyproject.toml': '[project'.repeat(100_000) });
  assert.ok(performance.now() - began < 3_000);
});

test.run();
