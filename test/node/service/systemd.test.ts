import { spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { systemdUnit } from '../../../node/service/systemd.ts';
import { readMarkLine, type ServiceSpec, serviceName } from '../../../node/service/types.ts';

const folder = mkdtempSync(join(tmpdir(), 'sf-unit-'));
test.after(() => rmSync(folder, { recursive: true, force: true }));

const spec = (change: Partial<ServiceSpec> = {}): ServiceSpec => ({
  bin: 'mesh-node',
  program: ['/usr/bin/true'],
  dir: '/var/lib/superfleet',
  beside: [],
  flags: ['--log-format', 'text'],
  scope: 'system',
  ...change,
});

const valuesOf = (unit: string, directive: string): string[] =>
  unit
    .split('\n')
    .flatMap((line) => (line.startsWith(`${directive}=`) ? [line.slice(directive.length + 1)] : []));

/** systemd's own reader, on a file of the name the service has. */
function analyze(verb: string[], made: ServiceSpec): { code: number | null; said: string } {
  const path = join(folder, `${serviceName(made.bin)}.service`);
  writeFileSync(path, systemdUnit(made, null));
  const user = made.scope === 'user' ? ['--user'] : [];
  const done = spawnSync('systemd-analyze', [...user, ...verb, path], {
    env: { ...process.env, XDG_RUNTIME_DIR: folder, HOME: folder, SYSTEMD_COLORS: '0', LC_ALL: 'C' },
    encoding: 'utf8',
    timeout: 30_000,
  });
  return { code: done.status, said: `${done.stdout}${done.stderr}` };
}
const verify = (made: ServiceSpec): void => {
  const { code, said } = analyze(['verify', '--man=no'], made);
  assert.is(code, 0, said);
  assert.is(said, '', 'systemd has nothing to say about it');
};
const there = spawnSync('systemd-analyze', ['--version'], { encoding: 'utf8' });
const version = Number(/^systemd (\d+)/.exec(there.stdout ?? '')?.[1] ?? 0);
const withSystemd = version >= 250 ? test : test.skip;
if (version < 250)
  console.log('skipped: units are verified by systemd-analyze 250 or later: apt-get install systemd');

withSystemd(
  'systemd-analyze verify accepts the units of both programs, for the machine and for a user',
  () => {
    for (const bin of ['mesh-node', 'mesh-hub'] as const) {
      for (const scope of ['system', 'user'] as const) {
        verify(spec({ bin, scope, beside: bin === 'mesh-hub' ? ['/var/lib/superfleet.secrets'] : [] }));
      }
    }
  },
);

withSystemd('spaces, %, $, =, ; and non-ASCII in the paths stay what they are', () => {
  const odd = join(folder, 'dätä für 100% $HOME', 'x;y=z & so');
  mkdirSync(odd, { recursive: true });
  const program = join(odd, 'mesh node');
  writeFileSync(program, '#!/bin/sh\n');
  // verify looks the program up by the very path it understood.
  const told = analyze(['verify', '--man=no'], spec({ program: [program] })).said;
  assert.ok(told.includes(`Command ${program} is not executable`), told);
  chmodSync(program, 0o755);
  verify(spec({ program: [program], dir: odd, beside: [`${odd}.secrets`] }));
  verify(spec({ program: [program], dir: odd, scope: 'user' }));
});

withSystemd('the exposure that systemd-analyze security measures stays as low as bubblewrap allows', () => {
  // systemd 252 measures 4.9 and 8.2. A later one may look at more, so the bounds have some room.
  for (const [scope, most] of [
    ['system', 52],
    ['user', 84],
  ] as const) {
    const looked = ['security', '--offline=true', '--no-pager', `--threshold=${most}`];
    const { code, said } = analyze(looked, spec({ scope }));
    assert.is(code, 0, said.split('\n').slice(-3).join('\n'));
  }
  const bare = join(folder, 'bare.service');
  writeFileSync(bare, '[Service]\nExecStart=/usr/bin/true\n');
  const open = spawnSync('systemd-analyze', [
    'security',
    '--offline=true',
    '--no-pager',
    '--threshold=84',
    bare,
  ]);
  assert.is.not(open.status, 0, 'the measure can fail');
});

withSystemd('the filtered system calls are none that bubblewrap, Node or giving up root needs', () => {
  const [filter = ''] = valuesOf(systemdUnit(spec(), null), 'SystemCallFilter');
  assert.ok(filter.startsWith('~@'));
  // ProtectClock filters by this set.
  const sets = [...filter.slice(1).split(' '), '@clock'];
  const said = spawnSync('systemd-analyze', ['--no-pager', 'syscall-filter', ...sets], { encoding: 'utf8' });
  const denied = new Set((said.stdout ?? '').split('\n').map((line) => line.trim()));
  assert.ok(denied.has('init_module') && denied.has('settimeofday'), 'the sets are spelt out');
  const needed =
    'clone clone3 unshare setns mount umount2 pivot_root sethostname prctl seccomp capset setuid setgid setgroups chown lchown socket bind kill ptrace personality mprotect memfd_create';
  assert.equal(
    needed.split(' ').filter((name) => denied.has(name)),
    [],
  );
});

test('what would take bubblewrap its namespaces, its /proc or its cgroups is in no unit', () => {
  for (const scope of ['system', 'user'] as const) {
    const unit = systemdUnit(spec({ scope }), 256);
    for (const directive of [
      'RestrictNamespaces',
      'PrivateUsers',
      'ProtectKernelTunables',
      'ProtectKernelLogs',
      'ProcSubset',
      'ProtectControlGroups',
      'ProtectHostname',
      'MemoryDenyWriteExecute',
    ]) {
      assert.equal(valuesOf(unit, directive), [], directive);
      const told = new RegExp(`^# .*${directive}.* (is|are) not set: `, 'm');
      assert.match(unit, told, `${directive} is told of`);
    }
    assert.equal(valuesOf(unit, 'Delegate'), ['cpu memory pids']);
  }
});

test('every directive has its reason in the line above it', () => {
  for (const scope of ['system', 'user'] as const) {
    const lines = systemdUnit(spec({ scope }), 256).split('\n');
    const bare = lines.filter(
      (line, at) => /^[A-Z]\w+=/.test(line) && !(lines[at - 1] ?? '').startsWith('# '),
    );
    assert.equal(bare, []);
  }
});

test('an exit code that no restart mends is not tried again, one that may pass is', () => {
  const unit = systemdUnit(spec(), null);
  assert.equal(valuesOf(unit, 'Restart'), ['on-failure']);
  assert.equal(valuesOf(unit, 'RestartPreventExitStatus'), ['2 4 5']);
  assert.equal(valuesOf(unit, 'StartLimitIntervalSec'), ['0']);
});

test('the wait between restarts grows only where systemd knows how', () => {
  assert.equal(valuesOf(systemdUnit(spec(), 253), 'RestartSteps'), []);
  assert.equal(valuesOf(systemdUnit(spec(), null), 'RestartMaxDelaySec'), []);
  assert.equal(valuesOf(systemdUnit(spec(), 254), 'RestartSteps'), ['8']);
  assert.equal(valuesOf(systemdUnit(spec(), 254), 'RestartMaxDelaySec'), ['5min']);
});

test('a folder the service needs is hidden from it by nothing', () => {
  const homes = systemdUnit(spec({ program: ['/home/ann/superfleet/scripts/mesh-node'] }), null);
  assert.equal(valuesOf(homes, 'ProtectHome'), ['read-only']);
  const tmp = systemdUnit(spec({ dir: '/tmp/data' }), null);
  assert.equal(valuesOf(tmp, 'PrivateTmp'), []);
  // The process has temporary files of its own there.
  assert.equal(valuesOf(tmp, 'ReadWritePaths'), ['-/tmp/data -/tmp']);
  const plain = systemdUnit(spec(), null);
  assert.equal(valuesOf(plain, 'ProtectHome'), ['yes']);
  assert.equal(valuesOf(plain, 'PrivateTmp'), ['yes']);
  assert.equal(valuesOf(plain, 'ReadWritePaths'), ['-/var/lib/superfleet']);
});

test('a path that no unit can carry is refused by name', () => {
  for (const bad of ['/var/lib/a"b', '/var/lib/a\nb', '/var/lib/a\\b', 'relative']) {
    assert.throws(
      () => systemdUnit(spec({ dir: bad }), null),
      (error: { code: string; message: string }) =>
        error.code === 'SF_USAGE' && error.message.includes(JSON.stringify(bad)),
    );
  }
});

test('the marker line tells whose service it is', () => {
  const mark = { bin: 'mesh-node', dir: '/srv/ü 1 {}' };
  assert.equal(readMarkLine(systemdUnit(spec({ dir: mark.dir }), null)), mark);
  for (const text of [
    '',
    '[Service]\n',
    '# superfleet-service {}\n',
    '# superfleet-service {"bin":"x","dir":"/"}\n',
    '# superfleet-service {"bin":\n',
    'x # superfleet-service {"bin":"mesh-node","dir":"/"}\n',
  ]) {
    assert.is(readMarkLine(text), null, text);
  }
});

test.run();
