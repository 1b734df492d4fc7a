import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { dropPrivileges } from '../../../node/privileges.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { type Facts, findReasons, judge, probe } from '../../../node/sandbox/probe.ts';
import type { Sandbox } from '../../../node/sandbox/types.ts';

if (process.getuid?.() === 0) {
  const report = await probe(createSandbox());
  test('root has no working sandbox, and is told to use another user (promise 14)', () => {
    assert.is(report.works, false);
    assert.match(report.lacks[0]?.what ?? '', 'root');
    assert.match(report.lacks[0]?.remedy ?? '', '--user');
  });
}
await dropPrivileges();
const sandbox = createSandbox();

const good: Facts = {
  platform: 'linux',
  arch: 'x64',
  bwrap: '0.8.0',
  kernel: '5.14.0-1-generic',
  prlimit: true,
  apparmorRestricts: null,
  usernsClone: null,
  maxUserNamespaces: '1000',
  container: false,
};
const reasons = (changed: Partial<Facts>): string[] =>
  findReasons({ ...good, ...changed }).map(({ what, remedy }) => `${what}\n${remedy}`);

test('the real profile runs, and what it must refuse it refuses', async () => {
  const report = await probe(sandbox);
  assert.equal(report.lacks, []);
  assert.is(report.works, true);
  assert.match(report.bwrap ?? '', /^\d+\.\d+/);
});

test('each lack has its reason and its remedy', () => {
  assert.equal(reasons({}), []);
  for (const [changed, said] of [
    [{ bwrap: null }, /apt install bubblewrap/],
    [{ bwrap: '0.7.9' }, /too old/],
    [{ kernel: '5.13.19' }, /upgrade the kernel/],
    [{ kernel: '4.19.0' }, /upgrade the kernel/],
    [{ prlimit: false }, /util-linux/],
    [{ apparmorRestricts: '1' }, /profile bwrap \/usr\/bin\/bwrap flags=\(unconfined\) \{\n {2}userns,/],
    [{ usernsClone: '0' }, /unprivileged_userns_clone=1/],
    [{ maxUserNamespaces: '0' }, /max_user_namespaces=/],
    [{ container: true }, /on the host/],
    [{ arch: 'riscv64' }, /riscv64/],
    [{ platform: 'darwin' }, /need Linux/],
  ] as const) {
    const told = reasons(changed);
    assert.is(told.length, 1, JSON.stringify(changed));
    assert.match(told[0] ?? '', said);
  }
  assert.equal(reasons({ bwrap: '0.11.0', kernel: '6.18.44', usernsClone: '1', apparmorRestricts: '0' }), []);
});

test('no remedy switches a protection off for every program', () => {
  for (const { remedy } of findReasons({ ...good, apparmorRestricts: '1' })) {
    assert.not.match(remedy, /restrict_unprivileged_userns\s*=\s*0/);
  }
});

test('an answer that says no, and a trial that broke off, both mean no sandbox', () => {
  const names = ['a', 'b', 'c', 'd', 'e', 'f', 'g'];
  assert.equal(judge(names.map((name) => `${name} yes\n`).join(''), ''), []);
  assert.is(judge(names.map((name) => `${name} ${name === 'c' ? 'no' : 'yes'}\n`).join(''), '').length, 1);
  assert.match(judge('a yes\n', 'bwrap: oh')[0]?.what ?? '', 'bwrap: oh');
  assert.is(judge('', '').length, 1);
});

test('a sandbox that cannot start is reported with its reason, never thrown', async () => {
  const broken: Sandbox = {
    limitKinds: sandbox.limitKinds,
    start: (run, signal) =>
      sandbox.start({ ...run, mounts: [{ from: '/no/such', to: '/workspace', writable: true }] }, signal),
  };
  const report = await probe(broken);
  assert.is(report.works, false);
  assert.match(JSON.stringify(report.lacks), '/no/such');
});

test('a sandbox that lets through what it must refuse is no sandbox', async () => {
  const report = await probe({
    limitKinds: sandbox.limitKinds,
    start: (run, signal) => {
      const script = String(run.argv[2]).replace('touch /usr/.superfleet', 'touch /tmp/written');
      return sandbox.start({ ...run, argv: ['sh', '-c', script] }, signal);
    },
  });
  assert.is(report.works, false);
  assert.match(JSON.stringify(report.lacks), 'usr is read only');
});

test.run();
