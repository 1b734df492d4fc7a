/** Projects that other people made, with their own test suites and real dependencies, as this machine's package managers have them. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join } from 'node:path';
import { fileURLToPath } from 'node:url';

export interface RealProject {
  name: string;
  manifest: { prepare: string[]; cache?: string[]; checks: string[]; network: string[] };
  /** Changes nothing that a test looks at. */
  touch: string;
  /** Breaks one line of the product. */
  break: string;
  /** What the suite's own runner says where all of it passed. */
  green: RegExp;
  /** Writes the project's files into a folder. */
  lay(folder: string): void;
}

const tool = fileURLToPath(new URL('./packages.py', import.meta.url));

/** Runs a program of this machine; throws with the end of what it said. */
function run(program: string, args: string[], cwd: string, env: Record<string, string> = {}): string {
  try {
    return execFileSync(program, args, {
      cwd,
      env: { ...process.env, ...env },
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
      maxBuffer: 64 * 1024 * 1024,
    }).trim();
  } catch (error) {
    const { stderr = '', message } = error as Error & { stderr?: string };
    throw new Error(`${program} ${args[0]}: ${stderr.slice(-2000) || message}`, { cause: error });
  }
}

/** Debian packages unpacked below `folder`, and nothing installed; what is there from before stays. */
function unpacked(folder: string, packages: readonly string[]): string {
  const mark = join(folder, '.unpacked');
  if (existsSync(mark) && readFileSync(mark, 'utf8') === packages.join(' ')) return folder;
  const archives = `${folder}.archives`;
  for (const each of [folder, archives]) {
    rmSync(each, { recursive: true, force: true });
    mkdirSync(each, { recursive: true });
  }
  run('apt-get', ['download', ...packages], archives);
  for (const name of readdirSync(archives)) run('dpkg-deb', ['-x', name, folder], archives);
  rmSync(archives, { recursive: true });
  writeFileSync(mark, packages.join(' '));
  return folder;
}

/** A program below `tools` that starts another with these variables. */
function launcher(tools: string, name: string, program: string, variables = ''): void {
  const path = join(tools, 'bin', name);
  mkdirSync(dirname(path), { recursive: true });
  writeFileSync(path, `#!/bin/sh\n${variables} exec ${program} "$@"\n`);
  chmodSync(path, 0o755);
}

/** npm: from the registry that npm is configured to use here, through the proxy. */
export function duplexify(scratch: string): RealProject {
  const registry = run('npm', ['config', 'get', 'registry'], scratch);
  // Where a registry's certificate is signed by an authority of the house, the repository has to bring that along.
  const authority = process.env.NODE_EXTRA_CA_CERTS ?? null;
  const variables = authority === null ? '' : 'NODE_EXTRA_CA_CERTS=authority.pem ';
  return {
    name: 'duplexify 4.1.3 (npm)',
    manifest: {
      prepare: [`${variables}npm ci --no-audit --no-fund --ignore-scripts`],
      checks: ['npm test'],
      network: [new URL(registry).hostname],
    },
    touch: 'echo "// a line" >>index.js',
    break: "sed -i 's/prototype._write = /prototype._writ = /' index.js",
    green: /^# pass +\d+[\s\S]*^# ok/m,
    lay(folder) {
      const archive = run('npm', ['pack', '--silent', 'duplexify@4.1.3'], scratch).split('\n').at(-1) ?? '';
      run('tar', ['-xzf', join(scratch, archive), '--strip-components=1', '-C', folder], scratch);
      if (authority !== null) cpSync(authority, join(folder, 'authority.pem'));
      writeFileSync(join(folder, '.npmrc'), `registry=${registry}\n`);
      run('npm', ['install', '--package-lock-only', '--ignore-scripts', '--no-audit', '--no-fund'], folder);
    },
  };
}

/** Python: wheels made of Debian's packages, served by an index at `url`, through the proxy. */
export function toolz(tools: string, served: string, url: string): RealProject {
  const debian = unpacked(join(tools, 'python'), [
    ...['python3-toolz', 'python3-pytest', 'python3-pluggy', 'python3-iniconfig', 'python3-packaging'],
    'python3-attr',
  ]);
  const site = join(debian, 'usr/lib/python3/dist-packages');
  const index = join(served, 'simple');
  const wheel = (name: string, version: string, requires: string, ...parts: string[]): string =>
    run('python3', [tool, 'wheel', index, name, version, requires, site, ...parts], tools);
  wheel('attrs', '22.2.0', '', 'attr', 'attrs');
  wheel('iniconfig', '1.1.1', '', 'iniconfig');
  wheel('packaging', '23.0', '', 'packaging');
  wheel('pluggy', '1.0.0', '', 'pluggy');
  wheel('pytest', '7.2.1', 'attrs>=19.2.0,iniconfig,packaging,pluggy>=0.12', '_pytest', 'pytest', 'py.py');
  return {
    name: 'toolz 0.12.0 (pip)',
    manifest: {
      prepare: [
        'python3 -m venv .venv',
        '.venv/bin/pip install --disable-pip-version-check -r requirements-test.txt',
      ],
      cache: ['.venv'],
      checks: ['python3 -m pytest -q toolz'],
      network: [new URL(url).hostname],
    },
    touch: 'echo "# a line" >>toolz/dicttoolz.py',
    break: "sed -i 's/rv.update(d)/pass/' toolz/dicttoolz.py",
    green: /^\d+ passed/m,
    lay(folder) {
      for (const name of ['toolz', 'tlz']) cpSync(join(site, name), join(folder, name), { recursive: true });
      writeFileSync(join(folder, 'requirements-test.txt'), `--index-url ${url}/simple\npytest==7.2.1\n`);
    },
  };
}

/** Rust: the compiler and crates of Debian, unpacked outside `/usr`; `cargo vendor` copies what the project depends on. */
export function heck(tools: string): RealProject {
  const debian = unpacked(join(tools, 'rust'), [
    ...[
      'cargo',
      'rustc',
      'libstd-rust-1.63',
      'libstd-rust-dev',
      'libllvm14',
      'libgit2-1.5',
      'libhttp-parser2.9',
    ],
    ...['libmbedcrypto7', 'libmbedtls14', 'libmbedx509-1', 'libssh2-1', 'libcurl3-gnutls'],
    ...['librust-heck-dev', 'librust-unicode-segmentation-dev'],
  ]);
  const machine = readdirSync(join(debian, 'usr/lib')).find((name) => name.endsWith('-linux-gnu')) ?? '';
  const libraries = `LD_LIBRARY_PATH=${join(debian, 'usr/lib', machine)}`;
  for (const name of ['cargo', 'rustc']) launcher(tools, name, join(debian, 'usr/bin', name), libraries);
  const crates = join(debian, 'usr/share/cargo/registry');
  const mirror = [
    ...['--config', `source.mirror.directory="${crates}"`],
    ...['--config', 'source.crates-io.replace-with="mirror"'],
  ];
  const quoted = mirror.map((word) => `'${word}'`).join(' ');
  return {
    name: 'heck 0.4.0 (cargo)',
    manifest: {
      prepare: [`cargo vendor ${quoted} --locked --respect-source-config vendor`],
      cache: ['vendor'],
      checks: ['cargo test --lib --features unicode'],
      network: [],
    },
    touch: 'echo "// a line" >>src/snake.rs',
    break: `sed -i 's/"_"/"-"/' src/snake.rs`,
    green: /^test result: ok\. \d+ passed/m,
    lay(folder) {
      cpSync(join(crates, 'heck-0.4.0'), folder, { recursive: true });
      // What `cargo vendor` asks its users to write.
      mkdirSync(join(folder, '.cargo'), { recursive: true });
      writeFileSync(
        join(folder, '.cargo/config.toml'),
        '[source.crates-io]\nreplace-with = "vendored-sources"\n[source.vendored-sources]\ndirectory = "vendor"\n',
      );
      writeFileSync(join(folder, '.gitignore'), 'target\n');
      const home = {
        CARGO_HOME: join(tools, '.cargo-home'),
        PATH: `${join(tools, 'bin')}:${process.env.PATH}`,
      };
      run('cargo', [...mirror, 'generate-lockfile', '--offline'], folder, home);
    },
  };
}

const MODULES = [
  'github.com/cpuguy83/go-md2man/v2@v2.0.2',
  'github.com/inconshreveable/mousetrap@v1.0.1',
  'github.com/spf13/pflag@v1.0.5',
  'gopkg.in/yaml.v3@v3.0.1',
  'github.com/russross/blackfriday/v2@v2.1.0',
  'gopkg.in/check.v1@v0.0.0-20161208181325-20d25e280405',
];

/** Go: the compiler of Debian, unpacked outside `/usr`, and a module proxy of files made of Debian's packages. */
export function cobra(tools: string): RealProject {
  const debian = unpacked(join(tools, 'go'), [
    ...[
      'golang-1.19-go',
      'golang-1.19-src',
      'golang-github-spf13-cobra-dev',
      'golang-github-spf13-pflag-dev',
    ],
    ...['golang-gopkg-yaml.v3-dev', 'golang-github-cpuguy83-go-md2man-v2-dev', 'golang-gopkg-check.v1-dev'],
    ...['golang-github-inconshreveable-mousetrap-dev', 'golang-github-russross-blackfriday-v2-dev'],
  ]);
  launcher(tools, 'go', join(debian, 'usr/lib/go-1.19/bin/go'));
  const gocode = join(debian, 'usr/share/gocode/src');
  const proxy = join(tools, 'go-modules');
  run('python3', [tool, 'module', proxy, gocode, ...MODULES], tools);
  return {
    name: 'cobra 1.6.1 (go)',
    manifest: {
      prepare: [`GOPROXY=file://${proxy} go mod download`],
      checks: ['CGO_ENABLED=0 go test ./...'],
      network: [],
    },
    touch: 'echo "// a line" >>args.go',
    break: "sed -i 's/unknown command/unknown comand/' args.go",
    green: /^ok\s+github\.com\/spf13\/cobra\s/m,
    lay(folder) {
      cpSync(join(gocode, 'github.com/spf13/cobra'), folder, { recursive: true, dereference: true });
      // Debian's modules differ from upstream's by their patches, so they have sums of their own.
      rmSync(join(folder, 'go.sum'), { force: true });
      const home = {
        GOPATH: join(tools, '.go-path'),
        GOPROXY: `file://${proxy}`,
        GOSUMDB: 'off',
        GOFLAGS: '-modcacherw',
      };
      run(join(tools, 'bin/go'), ['mod', 'download', 'all'], folder, home);
      rmSync(join(tools, '.go-path'), { recursive: true, force: true });
    },
  };
}
