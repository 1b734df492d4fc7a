// limit: 180 s
import { execFileSync, spawnSync } from 'node:child_process';
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { greeter, isRoot, Mesh, type Outcome, ok } from './mesh.ts';

/** What a script sees of a refusal: exit code, and one JSON document on stderr. */
interface Refusal {
  code: string;
  message: string;
  expected: string | null;
  got: string | null;
  hint: string | null;
}

function refusal(outcome: Outcome, exit: number, code: string): Refusal {
  assert.is(outcome.code, exit, `exit ${exit} expected, got ${outcome.code}: ${outcome.stderr}`);
  assert.is(outcome.stdout, '', 'a refusal leaves stdout empty');
  const line = outcome.stderr.split('\n').find((text) => text.startsWith('{"error":'));
  assert.ok(line !== undefined, `one JSON error on stderr, got: ${outcome.stderr}`);
  const { error } = JSON.parse(line!) as { error: Refusal };
  assert.is(error.code, code, JSON.stringify(error));
  assert.equal(Object.keys(error), ['code', 'message', 'expected', 'got', 'hint']);
  return error;
}

const mesh = new Mesh();
let repository = '';

test.before(async () => {
  await mesh.founder();
  repository = await greeter(join(mesh.home, 'greeter'));
});
test.after(() => mesh.close());

/** After every refusal the founder still serves. */
test.after.each(async () => {
  const status = await mesh.client.get<{ mesh: string }>('/v1/status');
  assert.match(status.mesh, /^[0-9a-f]{64}$/);
});

test('an unknown flag is named, with what is expected (exit 2)', async () => {
  const error = refusal(
    await mesh.hub(['task', 'run', '--chekc', 'true', '--json', '--', 'true']),
    2,
    'SF_USAGE',
  );
  assert.match(`${error.message} ${error.got}`, /--chekc/);
  refusal(await mesh.node('m1', ['status', '--nope', '--json']), 2, 'SF_USAGE');
});

test('a value of the wrong form is named with its flag (exit 2)', async () => {
  for (const [flag, value] of [
    ['--timeout', 'soon'],
    ['--label', 'nokey'],
    ['--env', '1X=2'],
    ['--retries', '-1'],
    ['--artifact', '../etc/passwd'],
  ] as const) {
    const outcome = await mesh.hub(['task', 'run', flag, value, '--json', '--', 'true'], { cwd: repository });
    const error = refusal(outcome, 2, 'SF_USAGE');
    assert.match(
      `${error.message} ${error.expected} ${error.got}`,
      new RegExp(value.replace('.', '\\.').slice(0, 6)),
    );
  }
});

test('an unknown field in the configuration is named (exit 2), and nothing is changed', async () => {
  const other = new Mesh();
  try {
    const init = await other.hub(['init', '--name', 'x', '--recovery-key', join(other.home, 'r.key')]);
    assert.is(init.code, 0, init.stderr);
    const path = join(other.dir('hub'), 'config.json');
    writeFileSync(path, JSON.stringify({ kind: 'hub', colour: 'green' }));
    const error = refusal(await other.hub(['start', '--port', '0', '--json']), 2, 'SF_USAGE');
    assert.match(error.message, /colour/);
  } finally {
    await other.close();
  }
});

test('a ref that does not exist is named (exit 2)', async () => {
  const outcome = await mesh.hub(['task', 'run', '--ref', 'no-such-branch', '--json', '--', 'true'], {
    cwd: repository,
  });
  assert.match(refusal(outcome, 2, 'SF_REPOSITORY').message, /no-such-branch/);
});

test('an empty repository is told apart from none (exit 2)', async () => {
  const empty = join(mesh.home, 'empty');
  mkdirSync(empty);
  await ok(['git', 'init', '-q', empty]);
  const without = refusal(
    await mesh.hub(['task', 'run', '--json', '--', 'true'], { cwd: empty }),
    2,
    'SF_REPOSITORY',
  );
  assert.match(without.message, /no commit|empty/i);
  const nowhere = await mesh.hub(['task', 'run', '--json', '--', 'true'], { cwd: mesh.home });
  assert.match(refusal(nowhere, 2, 'SF_REPOSITORY').hint ?? '', /--no-repo/);
});

test('a token that is truncated is told apart from a mistyped one (exit 4), and makes no folder', async () => {
  const { token } = await mesh.client.post<{ token: string }>('/v1/invites');
  const cut = refusal(await mesh.node('cut', ['join', token.slice(0, -9), '--json']), 4, 'SF_INVITE');
  assert.match(cut.message, /cut|truncat|short/i);
  const flipped = token.slice(0, 40) + (token[40] === 'a' ? 'b' : 'a') + token.slice(41);
  refusal(await mesh.node('cut', ['join', flipped, '--json']), 4, 'SF_INVITE');
  refusal(await mesh.node('cut', ['join', 'hello', '--json']), 4, 'SF_INVITE');
});

test('a token that was used is refused to the next machine (exit 4)', async () => {
  const { token } = await mesh.client.post<{ token: string }>('/v1/invites');
  const first = await mesh.joinWith('first', token);
  const second = await mesh.node('second', ['join', token, '--name', 'second', '--port', '0', '--json']);
  refusal(second, 4, 'SF_INVITE');
  await first.end('SIGTERM');
});

test('a token that has expired is refused (exit 4)', async () => {
  const { token, expiresAt } = await mesh.json<{ token: string; expiresAt: number }>([
    'invite',
    '--expires',
    '1s',
  ]);
  // What is waited for is the founder's clock passing the time it named.
  await delay(Math.max(0, expiresAt - Date.now()) + 1);
  const error = refusal(await mesh.node('late', ['join', token, '--port', '0', '--json']), 4, 'SF_INVITE');
  assert.match(`${error.message} ${error.expected}`, /expired/);
});

test('a token of another mesh is refused to a machine that has joined this one (exit 2)', async () => {
  const other = new Mesh();
  try {
    await other.founder();
    const member = await mesh.member('settled');
    await member.end('SIGTERM');
    const { token } = await other.client.post<{ token: string }>('/v1/invites');
    const error = refusal(
      await mesh.node('settled', ['join', token, '--port', '0', '--json']),
      2,
      'SF_EXISTS',
    );
    assert.match(error.hint ?? '', /leave/);
  } finally {
    await other.close();
  }
});

test('a data folder in use by another process names that process (exit 6)', async () => {
  const error = refusal(await mesh.hub(['start', '--port', '0', '--json']), 6, 'SF_LOCKED');
  assert.match(error.got ?? '', /process \d+/);
  assert.match(error.hint ?? '', /no second start: `status` shows it/);
});

(isRoot ? test : test.skip)(
  'init by root with a TMPDIR that its account may not enter says so, and what to remove (exit 6)',
  () => {
    const home = mkdtempSync(join(tmpdir(), 'sf-temporary-'));
    chmodSync(home, 0o755);
    const closed = join(home, 'closed');
    mkdirSync(closed, { mode: 0o700 });
    const key = join(home, 'r.key');
    const init = (TMPDIR: string) =>
      spawnSync(
        join(import.meta.dirname, '../../scripts/mesh-hub'),
        ['init', '--name', 'x', '--dir', join(home, 'mesh'), '--recovery-key', key, '--json'],
        { env: { ...process.env, TMPDIR }, encoding: 'utf8' },
      );
    try {
      const { status, stdout, stderr } = init(closed);
      const error = refusal({ code: status, stdout, stderr }, 6, 'SF_FOLDER');
      assert.match(error.message, closed);
      assert.match(error.hint ?? '', `rm ${key}`);
      rmSync(key);
      const again = init('/tmp');
      assert.is(again.status, 0, again.stderr);
    } finally {
      rmSync(home, { recursive: true, force: true });
    }
  },
);

test('a port in use is named, with how to choose another (exit 6)', async () => {
  const taken = createServer().listen(0, '0.0.0.0');
  await new Promise((resolve) => taken.once('listening', resolve));
  const { port } = taken.address() as { port: number };
  const other = new Mesh();
  try {
    const init = await other.hub(['init', '--name', 'x', '--recovery-key', join(other.home, 'r.key')]);
    assert.is(init.code, 0, init.stderr);
    const error = refusal(await other.hub(['start', '--port', String(port), '--json']), 6, 'SF_PORT_IN_USE');
    assert.match(error.message, new RegExp(String(port)));
    assert.match(error.hint ?? '', /--port/);
  } finally {
    taken.close();
    await other.close();
  }
});

test('a founder that is not there is said to be unreachable (exit 3)', async () => {
  const nobody = new Mesh();
  try {
    const none = refusal(await nobody.hub(['status', '--json']), 3, 'SF_UNREACHABLE');
    assert.match(none.hint ?? '', /mesh-hub init/);
    const init = await nobody.hub(['init', '--name', 'x', '--recovery-key', join(nobody.home, 'r.key')]);
    assert.is(init.code, 0, init.stderr);
    const down = refusal(await nobody.hub(['status', '--json']), 3, 'SF_UNREACHABLE');
    assert.match(down.hint ?? '', /mesh-hub start/);
  } finally {
    await nobody.close();
  }
});

test('a member that submits without the role is refused, with the roles that would do (exit 4)', async () => {
  const { token } = await mesh.client.post<{ token: string }>('/v1/invites', { roles: ['worker'] });
  await mesh.joinWith('donor', token);
  const words = ['task', 'run', '--no-repo', '--json', '--', 'true'];
  const error = refusal(await mesh.node('donor', words), 4, 'SF_REFUSED');
  assert.match(error.expected ?? '', /submitter/);
  assert.is(error.got, 'worker');
  assert.match(error.hint ?? '', /operator/);
});

test('a task, member or code that does not exist is named (exit 2)', async () => {
  for (const words of [
    ['task', 'describe', 'aaaaaaaaaaaa'],
    ['task', 'logs', 'aaaaaaaaaaaa'],
    ['task', 'stop', 'aaaaaaaaaaaa'],
    ['receipt', 'show', 'aaaaaaaaaaaa'],
    ['node', 'describe', 'nobody'],
    ['node', 'approve', '123-456-789'],
  ]) {
    refusal(await mesh.hub([...words, '--json']), 2, 'SF_NOT_FOUND');
  }
});

if (!isRoot) {
  console.log('skipped: the full disk is a small tmpfs, which needs root to mount');
  test.skip(
    'a full disk ends the founder with what to do (exit 6); nothing acknowledged is lost (promise 1)',
  );
} else {
  test('a full disk ends the founder with what to do (exit 6); nothing acknowledged is lost (promise 1)', async () => {
    const other = new Mesh();
    const folder = other.dir('disk');
    mkdirSync(folder);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=24m,mode=755', 'tmpfs', folder]);
    try {
      other.place('hub', join(folder, 'hub'));
      const founder = await other.founder();
      // No member has a free slot, so tasks only fill the log.
      await other.json(['node', 'drain', 'hub']);
      const acknowledged: string[] = [];
      const fill = (): void => {
        execFileSync('sh', [
          '-c',
          `head -c 100000000 /dev/zero >> '${join(folder, 'ballast')}' 2>/dev/null || true`,
        ]);
      };
      fill();
      let refused: Outcome | null = null;
      for (let n = 0; n < 40 && refused === null; n++) {
        const done = await other.hub(['task', 'run', '--no-repo', '--json', '--', 'true', 'x'.repeat(4000)]);
        if (done.code === 0) acknowledged.push((JSON.parse(done.stdout) as { id: string }).id);
        else refused = done;
      }
      assert.ok(refused !== null, 'a full disk refuses the submission');
      assert.ok([3, 6].includes(refused!.code ?? -1), `${refused!.code}: ${refused!.stderr}`);
      if (!founder.exited) await new Promise((resolve) => founder.child.once('exit', resolve));
      assert.is(founder.child.exitCode, 6, founder.log);
      assert.match(founder.log, /SF_DISK_FULL/);
      // One in the background cannot even write that.
      fill();
      const detached = await other.hub(['start', '--detach', '--json']);
      if (detached.code === 0) await other.hub(['stop']);
      assert.match(refusal(detached, 6, 'SF_DISK_FULL').hint ?? '', /^free some space/);
      writeFileSync(join(folder, 'ballast'), '');
      await other.startFounder();
      const { items } = await other.client.get<{ items: { id: string }[] }>('/v1/tasks');
      const there = new Set(items.map(({ id }) => id));
      for (const id of acknowledged) assert.ok(there.has(id), `task ${id} was acknowledged`);
      const again = await other.hub(['task', 'run', '--no-repo', '--json', '--', 'true']);
      assert.is(again.code, 0, again.stderr);
    } finally {
      for (const daemon of other.daemons) await daemon.end('SIGKILL');
      execFileSync('umount', [folder]);
      await other.close();
    }
  });
}

test.run();
