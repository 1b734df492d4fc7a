import { z } from 'zod';
import type { Manifest } from './manifest.ts';

/** Where something that `prepare` made lies: a path in the repository, or below the home of the sandbox. */
export interface MadeFolder {
  in: 'workspace' | 'home';
  path: string;
}

/** How an environment is made, from defaults and the manifest. */
export interface Recipe {
  /** Each run by `sh -c` in the root of the repository. Empty: nothing is to be prepared. */
  prepare: string[];
  /** Files the lines read, whose contents decide what they make; some may not be there. */
  reads: string[];
  makes: MadeFolder[];
  /** Hosts the lines need; whether they may is the owner's word. Null: the registries of their tools, whose hosts the owner knows. */
  network: string[] | null;
  /** Programs whose versions decide what is made. */
  tools: string[];
}

/** Files in the root whose contents `detect` looks at, where they are there. */
export const readByDetect: readonly string[] = [
  'package.json',
  'package-lock.json',
  'npm-shrinkwrap.json',
  'pnpm-lock.yaml',
  'pyproject.toml',
  'requirements.txt',
  'requirements-dev.txt',
  'requirements-test.txt',
  'requirements_dev.txt',
  'requirements_test.txt',
  'dev-requirements.txt',
  'test-requirements.txt',
];

interface Root {
  has(path: string): boolean;
  /** Contents of a file of `readByDetect`; empty where it is not there. */
  text(path: string): string;
}

const nothing = (): Recipe => ({ prepare: [], reads: [], makes: [], network: [], tools: [] });

/**
 * How the dependencies of a repository are had, by the lock files in its root. Without a lock file npm, pnpm and cargo have no
 * default: what they would make could not be told from what they made last month.
 *
 * @param paths names in the root, folders without a slash
 * @param contents of those in `readByDetect`
 */
export function detect(paths: readonly string[], contents: Readonly<Record<string, string>>): Recipe {
  const names = new Set(paths);
  const root: Root = {
    has: (path) => names.has(path),
    text: (path) => (names.has(path) && Object.hasOwn(contents, path) ? (contents[path] ?? '') : ''),
  };
  return [javascript(root), python(root), rust(root), go(root)].reduce(together, nothing());
}

/** What the manifest says goes before what was detected; what it does not say stays. */
export function recipeOf(manifest: Manifest | null, detected: Recipe): Recipe {
  if (manifest === null) return detected;
  const prepare = manifest.prepare ?? detected.prepare;
  const own = manifest.prepare === null ? [] : manifest.prepare.flatMap(pathsNamed);
  const cache = manifest.cache?.map((path): MadeFolder => ({ in: 'workspace', path }));
  return {
    prepare,
    reads: distinct([...detected.reads, ...own]),
    // What lies in the home is no path of the repository, so a manifest cannot leave it out by naming others.
    makes: outermost(
      cache === undefined
        ? detected.makes
        : [...cache, ...detected.makes.filter((made) => made.in === 'home')],
    ),
    network: manifest.needs.network ?? detected.network,
    tools: distinct([...detected.tools, ...Object.keys(manifest.needs.tools ?? {})]),
  };
}

/** Words of a command line that may be files of the repository; options, addresses and what leads outside are none. */
export function pathsNamed(line: string): string[] {
  return line
    .split(/[\s;|&<>()"'`=]+/)
    .map((word) => word.replace(/^\.\//, ''))
    .filter((word) => /^[\w.@+-][\w./@+-]*$/.test(word) && !word.startsWith('-') && !word.endsWith('/'))
    .filter((word) => !word.split('/').some((name) => name === '' || name === '..' || name === '.'));
}

function together(one: Recipe, other: Recipe): Recipe {
  return {
    prepare: [...one.prepare, ...other.prepare],
    reads: distinct([...one.reads, ...other.reads]),
    makes: [...one.makes, ...other.makes],
    network:
      one.network === null || other.network === null ? null : distinct([...one.network, ...other.network]),
    tools: distinct([...one.tools, ...other.tools]),
  };
}

const distinct = (all: readonly string[]): string[] => [...new Set(all)];

/** Folders that are not below another of them: what holds a folder keeps it. */
function outermost(all: readonly MadeFolder[]): MadeFolder[] {
  const holds = (outer: MadeFolder, inner: MadeFolder): boolean =>
    outer.in === inner.in && inner.path.startsWith(`${outer.path}/`);
  const once = all.filter(
    (made, at) => all.findIndex((other) => other.in === made.in && other.path === made.path) === at,
  );
  return once.filter((made) => !once.some((other) => holds(other, made)));
}

function javascript(root: Root): Recipe {
  const npmLock = ['npm-shrinkwrap.json', 'package-lock.json'].find((name) => root.has(name));
  if (!root.has('package.json')) return nothing();
  const manager = /"packageManager"\s*:\s*"(\w+)@/.exec(root.text('package.json'))?.[1];
  if (root.has('pnpm-lock.yaml') && (npmLock === undefined || manager === 'pnpm')) return pnpm(root);
  if (npmLock === undefined) return nothing();
  const { workspaces, folders } = npmPackages(root.text(npmLock));
  return {
    prepare: ['npm ci --no-audit --no-fund'],
    reads: [npmLock, 'package.json', '.npmrc', ...workspaces.map((path) => `${path}/package.json`)],
    makes: [made('node_modules'), ...folders.map(made)],
    network: null,
    tools: ['node', 'npm'],
  };
}

const made = (path: string): MadeFolder => ({ in: 'workspace', path });

const npmLockFile = z.object({ packages: z.record(z.string(), z.unknown()) });

/** From a lock file of npm: packages that lie in the repository itself, and `node_modules` below them. */
function npmPackages(lock: string): { workspaces: string[]; folders: string[] } {
  let parsed: unknown = null;
  try {
    parsed = JSON.parse(lock);
  } catch {
    // npm will say so.
  }
  const read = npmLockFile.safeParse(parsed);
  const keys = read.success ? Object.keys(read.data.packages).filter(isInside) : [];
  const workspaces = keys.filter((key) => !key.split('/').includes('node_modules'));
  const folders = keys
    .filter((key) => key.includes('/node_modules/') && !key.startsWith('node_modules/'))
    .map((key) => key.slice(0, key.indexOf('/node_modules/') + '/node_modules'.length));
  return { workspaces: distinct(workspaces), folders: distinct(folders) };
}

/** Foreign text as a path: nothing that could lead outside. */
const isInside = (path: string): boolean =>
  path.length <= 512 &&
  !path.includes('\0') &&
  path.split('/').every((name) => !['', '.', '..', '.git'].includes(name));

function pnpm(root: Root): Recipe {
  const [, importers = ''] = /^importers:\n((?:\n|[ ].*\n?)*)/m.exec(root.text('pnpm-lock.yaml')) ?? [];
  const workspaces = [...importers.matchAll(/^ {2}['"]?([^\s'":]+)['"]?:/gm)]
    .map((found) => found[1] ?? '')
    .filter(isInside);
  return {
    prepare: ['pnpm install --frozen-lockfile'],
    reads: [
      'pnpm-lock.yaml',
      'package.json',
      'pnpm-workspace.yaml',
      '.npmrc',
      ...workspaces.map((path) => `${path}/package.json`),
    ],
    makes: [made('node_modules'), ...workspaces.map((path) => made(`${path}/node_modules`))],
    network: null,
    tools: ['node', 'pnpm'],
  };
}

function python(root: Root): Recipe {
  const lists = readByDetect.filter((name) => /requirements/.test(name) && root.has(name));
  const buildable = root.has('setup.py') || /^\[(build-system|project)\]/m.test(root.text('pyproject.toml'));
  if (lists.length === 0 && !buildable) return nothing();
  const included = lists.flatMap((name) =>
    [...root.text(name).matchAll(/^\s*(?:-r|-c|--requirement|--constraint)[ =]?\s*(\S+)/gm)].map(
      (found) => found[1] ?? '',
    ),
  );
  const pip = '.venv/bin/pip install --disable-pip-version-check';
  return {
    prepare: [
      'python3 -m venv .venv',
      ...(lists.length === 0 ? [] : [`${pip} ${lists.map((name) => `-r ${name}`).join(' ')}`]),
      // The package itself stays in the work tree, so that the tests see what the task changes.
      ...(buildable ? [`${pip} -e .`] : []),
    ],
    reads: distinct([
      ...lists,
      ...included.filter(isInside),
      ...['pyproject.toml', 'setup.py', 'setup.cfg', 'poetry.lock', 'uv.lock'],
    ]),
    makes: [made('.venv')],
    network: null,
    tools: ['python3'],
  };
}

function rust(root: Root): Recipe {
  if (!root.has('Cargo.toml') || !root.has('Cargo.lock')) return nothing();
  return {
    prepare: ['cargo fetch --locked'],
    reads: ['Cargo.lock', 'Cargo.toml', 'rust-toolchain', 'rust-toolchain.toml', '.cargo/config.toml'],
    // Not `target`: it holds what was made of the sources too, and cargo tells old from new by times alone.
    makes: [{ in: 'home', path: '.cargo' }],
    network: null,
    tools: ['cargo'],
  };
}

function go(root: Root): Recipe {
  // With `vendor` everything is in the repository.
  if (!(root.has('go.mod') || root.has('go.work')) || root.has('vendor')) return nothing();
  return {
    prepare: ['go mod download'],
    reads: ['go.mod', 'go.sum', 'go.work', 'go.work.sum'],
    makes: [{ in: 'home', path: 'go/pkg/mod' }],
    network: null,
    tools: ['go'],
  };
}
