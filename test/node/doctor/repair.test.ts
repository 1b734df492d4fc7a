// limit: 200 s
import { execFileSync, spawn, spawnSync } from 'node:child_process';
import { once } from 'node:events';
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { delimiter, join, resolve } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { applyRepairs } from '../../../node/doctor/apply.ts';
import { MANAGERS, type Means, repairLines, repairsFor, typed } from '../../../node/doctor/repair.ts';
import { APPARMOR_PROFILE } from '../../../node/sandbox/probe.ts';

const apt: Means = { manager: 'apt-get', elevate: 'sudo', listsMissing: false, profile: null };
const lines = (findings: string[], means: Partial<Means> = {}): string[] =>
  repairsFor(findings, { ...apt, ...means }).flatMap(({ steps }) => steps.map(typed));
const BWRAP = 'sandbox/bubblewrap-missing';

test('each package manager is told in its own words, once for all packages', () => {
  const both = [BWRAP, 'git/missing', 'models/none'];
  const told = MANAGERS.map((manager) => lines(both, { manager, elevate: 'root' }).join('; '));
  assert.equal(told, [
    'apt-get install -y --no-install-recommends bubblewrap git',
    'dnf install -y bubblewrap git',
    'pacman -S --needed --noconfirm bubblewrap git',
    'zypper --non-interactive install bubblewrap git',
    'apk add bubblewrap git',
  ]);
  assert.equal(lines(both, { manager: null }), []);
  assert.equal(lines([BWRAP], { listsMissing: true }), [
    'sudo apt-get update',
    'sudo apt-get install -y --no-install-recommends bubblewrap',
  ]);
});

test('the profile is for bwrap alone, one that is there is loaded and never written over, no switch is thrown for all', () => {
  const [write, load] = lines(['sandbox/apparmor']);
  assert.is(write, `sudo tee /etc/apparmor.d/bwrap >/dev/null <<'END'\n${APPARMOR_PROFILE}END`);
  assert.is(load, 'sudo apparmor_parser -r /etc/apparmor.d/bwrap');
  const profile = '/etc/apparmor.d/bwrap-userns-restrict';
  assert.equal(lines(['sandbox/apparmor'], { profile }), [`sudo apparmor_parser -r ${profile}`]);
  for (const id of [
    'sandbox/userns-clone',
    'sandbox/userns-max',
    'multicast/not-heard',
    'firewall/mdns-in',
  ]) {
    assert.is(repairLines(id, apt), null, `${id} is told, not done`);
  }
});

/** The version of AppArmor's compiler; null: not installed. Rules for user namespaces came with 4.0. */
function parserVersion(): number | null {
  const asked = spawnSync('apparmor_parser', ['--version'], { encoding: 'utf8', env: SBIN });
  return asked.status === 0 ? Number.parseFloat(/(\d+\.\d+)/.exec(asked.stdout)?.[1] ?? '0') : null;
}
const SBIN = { ...process.env, PATH: `${process.env.PATH}:/usr/sbin:/sbin` };
const compile = (profile: string) =>
  spawnSync('apparmor_parser', ['-QT'], { input: profile, encoding: 'utf8', env: SBIN });

const version = parserVersion();
const name = 'apparmor_parser -QT takes the profile, and nothing like it that is wrong';
if (version === null) {
  console.log('skipped: apparmor_parser is not installed');
  test.skip(name);
} else {
  test(name, () => {
    // An older compiler knows all of it but the two lines for which the profile is written.
    const known = version >= 4 ? APPARMOR_PROFILE : older(APPARMOR_PROFILE);
    if (version < 4)
      console.log(`skipped: AppArmor ${version} has no rule for user namespaces; the rest is compiled`);
    const done = compile(known);
    assert.is(done.status, 0, done.stderr);
    assert.is.not(compile(known.replace('}', '')).status, 0);
    assert.is.not(compile(known.replace('(unconfined)', '(unconfned)')).status, 0);
  });
}

function older(profile: string): string {
  const without = profile.replace('abi <abi/4.0>,\n', '').replace('  userns,\n', '');
  assert.is(without.split('\n').length, profile.split('\n').length - 2);
  return without;
}

/** A folder with a package manager that writes down what it is told and installs nothing. */
function recorder(exit = 0): { folder: string; said(): string[]; close(): void } {
  const folder = mkdtempSync(join(tmpdir(), 'sf-recorder-'));
  const record = join(folder, 'record');
  writeFileSync(record, '');
  for (const program of ['apt-get', 'tee', 'apparmor_parser']) {
    const path = join(folder, program);
    writeFileSync(
      path,
      `#!/bin/sh\necho "${program} $*" >> ${record}\n[ ${program} != tee ] || cat >> ${record}\nexit ${exit}\n`,
    );
    chmodSync(path, 0o755);
  }
  return {
    folder,
    said: () => readFileSync(record, 'utf8').split('\n').filter(Boolean),
    close: () => rmSync(folder, { recursive: true }),
  };
}

test('repairs run as they were shown, in order; a command that fails ends its repair and not the next', async () => {
  const findings = [BWRAP, 'sandbox/apparmor'];
  const means: Means = { ...apt, elevate: 'root', listsMissing: true };
  for (const [exit, faults] of [
    [0, [null, null]],
    [
      3,
      ['apt-get install -y --no-install-recommends bubblewrap: exit 3', 'tee /etc/apparmor.d/bwrap: exit 3'],
    ],
  ] as const) {
    const stand = recorder(exit);
    try {
      const shown: string[] = [];
      const applied = await applyRepairs(repairsFor(findings, means), {
        env: { ...process.env, PATH: `${stand.folder}${delimiter}/usr/bin:/bin` },
        signal: new AbortController().signal,
        onStep: (line) => shown.push(line),
      });
      assert.equal(
        applied.map(({ fault }) => fault),
        faults,
      );
      const profile = APPARMOR_PROFILE.split('\n').filter(Boolean);
      assert.equal(stand.said(), [
        'apt-get update',
        'apt-get install -y --no-install-recommends bubblewrap',
        'tee /etc/apparmor.d/bwrap',
        ...profile,
        ...(exit === 0 ? ['apparmor_parser -r /etc/apparmor.d/bwrap'] : []),
      ]);
      assert.is(shown[0], 'apt-get update');
    } finally {
      stand.close();
    }
  }
});

// The command itself, on a machine without bubblewrap: this one, in a mount namespace of its own where bwrap is covered.

const ROOT = resolve(import.meta.dirname, '../../..');
const isRoot = process.getuid?.() === 0;
const BARE = 'mount --bind "$1/nothing" /usr/bin/bwrap && shift && exec "$@"';

/** `doctor WORDS…` where `/usr/bin/bwrap` cannot be run and `apt-get` only records. */
function bare(stand: { folder: string }, words: string[], through: string[] = []): string[] {
  writeFileSync(join(stand.folder, 'nothing'), '');
  const doctor = [join(ROOT, 'scripts/mesh-node'), '--dir', join(stand.folder, 'data'), 'doctor', ...words];
  return [...through, 'unshare', '--mount', 'sh', '-c', BARE, 'bare', stand.folder, ...doctor];
}
const pathOf = (stand: { folder: string }): NodeJS.ProcessEnv => ({
  ...process.env,
  PATH: `${stand.folder}${delimiter}${process.env.PATH}`,
});

const asRoot = isRoot ? test : test.skip;
if (!isRoot) console.log('skipped: what --fix does is tried in a mount namespace, which needs root');

asRoot('doctor --fix without a terminal and without --yes prints the commands and changes nothing', () => {
  const stand = recorder();
  try {
    const [file = '', ...args] = bare(stand, ['--fix']);
    const done = spawnSync(file, args, { env: pathOf(stand), encoding: 'utf8' });
    assert.is(done.status, 6, done.stderr);
    assert.match(done.stderr, /^ {2}apt-get install -y --no-install-recommends bubblewrap$/m);
    assert.match(done.stderr, /nothing was changed: there is no terminal/);
    assert.match(done.stdout, /^FAIL {2}sandbox.*bubblewrap is not installed$/m);
    assert.equal(stand.said(), []);
  } finally {
    stand.close();
  }
});

asRoot('doctor --fix --yes asks nothing, runs them, and looks again', () => {
  const stand = recorder();
  try {
    const [file = '', ...args] = bare(stand, ['--fix', '--yes', '--json']);
    const done = spawnSync(file, args, { env: pathOf(stand), encoding: 'utf8' });
    // The stand-in installs nothing, and the second look says so.
    assert.is(done.status, 6, done.stderr);
    const { able, repairs } = JSON.parse(done.stdout);
    assert.is(able, false);
    assert.equal(repairs, [
      {
        findings: [BWRAP],
        title: 'install bubblewrap',
        commands: ['apt-get install -y --no-install-recommends bubblewrap'],
        done: true,
      },
    ]);
    assert.equal(stand.said(), ['apt-get install -y --no-install-recommends bubblewrap']);
  } finally {
    stand.close();
  }
});

asRoot('on a terminal doctor --fix asks: no and Ctrl-C change nothing, yes does it', async () => {
  const answers = [
    ['n\n', 6, 0],
    ['\x03', 130, 0],
    ['y\n', 6, 1],
  ] as const;
  // Each in a mount namespace and on a terminal of its own.
  const asked = answers.map(async ([typedText, exit, ran]) => {
    const stand = recorder();
    try {
      const command = bare(stand, ['--fix']).map((word) => `'${word.replaceAll("'", `'\\''`)}'`);
      const child = spawn('script', ['-qec', command.join(' '), '/dev/null'], { env: pathOf(stand) });
      let screen = '';
      let answered = false;
      child.stdout.on('data', (bytes: Buffer) => {
        screen += bytes;
        if (answered || !screen.includes('run them now? [y/N]')) return;
        answered = true;
        child.stdin.write(typedText);
      });
      const [code] = await once(child, 'close');
      assert.is(code, exit, screen);
      assert.match(screen, /these commands would mend it:\r?\n {2}apt-get install/);
      assert.is(stand.said().length, ran, screen);
    } finally {
      stand.close();
    }
  });
  for (const { reason } of (await Promise.allSettled(asked)) as { reason?: unknown }[])
    if (reason !== undefined) throw reason;
});

asRoot('doctor --fix --yes installs bubblewrap for real, in an overlay of this system', () => {
  const folder = mkdtempSync(join(tmpdir(), 'sf-overlay-'));
  try {
    const script = `
set -e
mount -t tmpfs overlay "$1" && mkdir "$1/up" "$1/work" "$1/tree"
mount -t overlay overlay -o "lowerdir=/,upperdir=$1/up,workdir=$1/work" "$1/tree"
for kept in proc dev sys ; do mount --rbind "/$kept" "$1/tree/$kept" ; done
mount -t tmpfs tmp "$1/tree/tmp" && chmod 1777 "$1/tree/tmp"
mkdir -p "$1/tree$2" && mount --bind "$2" "$1/tree$2"
# Not chroot: the kernel gives nobody in one a user namespace, and bubblewrap needs it.
cd "$1/tree" && mkdir .old && pivot_root . .old && cd / && umount -l /.old
dpkg --force-depends --purge bubblewrap >/dev/null 2>&1
if command -v bwrap ; then exit 77 ; fi
{ apt-get update && apt-get install -y --download-only --no-install-recommends bubblewrap ; } >/dev/null 2>&1 || exit 78
"$2/scripts/mesh-node" --dir /var/lib/none doctor --json || echo
"$2/scripts/mesh-node" --dir /var/lib/none doctor --fix --yes --json`;
    const done = spawnSync('unshare', ['--mount', 'sh', '-c', script, 'overlay', folder, ROOT], {
      encoding: 'utf8',
      timeout: 120_000,
    });
    if (done.status === 77 || done.status === 78 || /overlay.*(denied|invalid|wrong fs)/i.test(done.stderr)) {
      console.log(`skipped: no overlay or no packages to be had here (${done.stderr.trim().slice(-120)})`);
      return;
    }
    const [before, after] = done.stdout
      .trim()
      .split('\n')
      .filter(Boolean)
      .map((line) => JSON.parse(line));
    assert.is(before?.able, false, done.stderr);
    assert.is(after?.able, true, `${done.stdout}${done.stderr}`);
    assert.is(after.repairs[0].done, true);
    assert.is(done.status, 0);
  } finally {
    rmSync(folder, { recursive: true });
  }
  execFileSync('bwrap', ['--version']);
});

test.run();
