// limit: 120 s
import { createHash, randomBytes } from 'node:crypto';
import { closeSync, openSync, readdirSync, readFileSync, readlinkSync, readSync, statSync } from 'node:fs';
import { basename, dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { TaskDetail } from '../../node/api/objects.ts';
import { Fleet, filesUnder } from './fleet.ts';
import { isRoot } from './mesh.ts';

/** Random in full, so that whatever holds a part of it holds it from here. */
const CANARY = `canary-${randomBytes(24).toString('hex')}`;

/** How the value would look where it was encoded: as it is, in hex, in base64 wherever it begins. */
const FORMS: Buffer[] = [
  Buffer.from(CANARY),
  Buffer.from(Buffer.from(CANARY).toString('hex')),
  ...[0, 1, 2].flatMap((shift) => {
    const text = Buffer.from(`${'x'.repeat(shift)}${CANARY}`).toString('base64');
    // First and last characters depend on the neighbours too.
    const inner = text.slice(shift === 0 ? 0 : 4, -4);
    return [Buffer.from(inner), Buffer.from(inner.replaceAll('+', '-').replaceAll('/', '_'))];
  }),
];
const holds = (bytes: Buffer | string): boolean => FORMS.some((form) => Buffer.from(bytes).includes(form));

const fleet = await Fleet.start({
  hub: { slots: 0 },
  members: { m1: { slots: 2 }, m2: { slots: 2 } },
});
test.after(() => fleet.close());

const secretsFolder = join(dirname(fleet.dir('hub')), 'hub.secrets');

/** Files under everything this mesh has on disk that hold the value, but for the one place where it belongs. */
const filesThatHold = (): string[] =>
  filesUnder(fleet.home).filter((path) => dirname(path) !== secretsFolder && holds(readFileSync(path)));

/** Processes whose command line or environment holds the value, and whether they are in a sandbox. */
function processesThatHold(): { pid: number; file: string; sandboxed: boolean }[] {
  const found: { pid: number; file: string; sandboxed: boolean }[] = [];
  const own = readlinkSync('/proc/self/ns/pid');
  for (const pid of readdirSync('/proc').filter((name) => /^\d+$/.test(name))) {
    for (const file of ['cmdline', 'environ']) {
      try {
        if (!holds(readFileSync(`/proc/${pid}/${file}`))) continue;
        found.push({ pid: Number(pid), file, sandboxed: readlinkSync(`/proc/${pid}/ns/pid`) !== own });
      } catch {
        // It ended, or is a thread of the kernel.
      }
    }
  }
  return found;
}

/** Whether the memory of a process holds the value. */
function memoryHolds(pid: number): boolean {
  const memory = openSync(`/proc/${pid}/mem`, 'r');
  try {
    for (const line of readFileSync(`/proc/${pid}/maps`, 'latin1').split('\n')) {
      const [, from, to] = /^([0-9a-f]+)-([0-9a-f]+) rw/.exec(line) ?? [];
      if (from === undefined || to === undefined) continue;
      const end = Number.parseInt(to, 16);
      const piece = Buffer.alloc(4 * 2 ** 20);
      for (let at = Number.parseInt(from, 16); at < end; at += piece.length - CANARY.length) {
        let length = 0;
        try {
          length = readSync(memory, piece, 0, Math.min(piece.length, end - at), at);
        } catch {
          break; // Not backed by anything.
        }
        if (piece.subarray(0, length).includes(CANARY)) return true;
      }
    }
    return false;
  } finally {
    closeSync(memory);
  }
}

let task = '';

test('a task whose secret is not set waits, and says so', async () => {
  const command = `
    printf %s "$TOKEN" | sha256sum
    echo "it is $TOKEN"
    echo "it is $TOKEN" >&2
    printf %s "$TOKEN" | cut -c 1-20 | tr -d '\\n'
    printf %s "$TOKEN" | cut -c 21-
    sleep 2`;
  task = await fleet.submit(['sh', '-c', command], {
    on: 'm1',
    secrets: ['TOKEN'],
    repository: await fleet.repository(),
    checks: ['test -z "$TOKEN" && ! env | grep -q TOKEN'],
  });
  const { items } = await fleet.json<{ items: object[] }>(['task', 'list', '--state', 'queued']);
  assert.is(items.length, 1);
  const why = await fleet.hub(['task', 'why', task]);
  assert.match(why.stdout, /the secret TOKEN is not set \(mesh-hub secret set TOKEN\)/);
});

test('set later, it runs: the value reaches the task, and no other process while it runs', async () => {
  const set = await fleet.hub(['secret', 'set', 'TOKEN'], { input: `${CANARY}\n` });
  assert.is(set.code, 0, set.stderr);
  await fleet.about(task, 'attempt.started');
  const inside = await waitFor(() => processesThatHold().filter(({ sandboxed }) => sandboxed));
  assert.ok(
    inside.every(({ file }) => file === 'environ'),
    'by its environment, never by its argv',
  );
  assert.equal(
    processesThatHold().filter(({ sandboxed }) => !sandboxed),
    [],
    'no process outside the sandbox has it in its command line or environment',
  );
  assert.equal(filesThatHold(), [], 'no file holds it while the task runs');
  const ended = await fleet.ended(task);
  assert.is(ended.state, 'delivered', `${ended.detail}`);
  assert.is(ended.verified, true, 'checks got no secret, here or at the verifier');
  const { stdout } = await fleet.hub(['task', 'logs', task]);
  assert.ok(stdout.includes(createHash('sha256').update(CANARY).digest('hex')), 'the task had the value');
  assert.is(stdout.split('it is ***').length - 1, 2, 'and what it printed of it is masked');
});

test('no answer of any command holds it', async () => {
  const verbs = [
    ['task', 'describe', task],
    ['task', 'history', task],
    ['task', 'logs', task],
    ['task', 'why', task],
    ['task', 'list'],
    ['receipt', 'show', task],
    ['ledger', 'export'],
    ['ledger', 'tail', '--from', '0'],
    ['secret', 'list'],
    ['status'],
    ['node', 'list'],
    ['node', 'describe', 'm1'],
  ];
  await Promise.all(
    verbs.flatMap((verb) =>
      [verb, [...verb, '--json']].map(async (words) => {
        const done = await fleet.hub(words);
        assert.is(done.code, 0, `${words.join(' ')}: ${done.stderr}`);
        assert.not(holds(done.stdout) || holds(done.stderr), words.join(' '));
      }),
    ),
  );
  const refused = await fleet.hub(['secret', 'set', 'OTHER'], { input: CANARY.repeat(4_000) });
  assert.is(refused.code, 2, 'one that is too large is refused');
  assert.not(holds(refused.stdout) || holds(refused.stderr), 'and not repeated');
});

test('a member that only verified never had it in its memory', async () => {
  const { executor, verifier } = (await fleet.describe(task)) as TaskDetail;
  assert.equal([executor!.name, verifier!.name], ['m1', 'm2']);
  if (!isRoot) return console.log('skipped: the memory of another process is read as root only');
  assert.ok(memoryHolds(fleet.hubDaemon!.pid), 'the founder holds it, so the search finds what is there');
  assert.not(memoryHolds(fleet.daemon('m2').pid));
});

test('nothing on any disk holds it but the founder’s file, 0600 in a 0700 folder outside its data folder', async () => {
  assert.equal(filesThatHold(), []);
  const [file, ...others] = filesUnder(secretsFolder);
  assert.equal(others, []);
  assert.ok(holds(readFileSync(file!)), 'it is where it belongs');
  assert.is(statSync(file!).mode & 0o777, 0o600, basename(file!));
  assert.is(statSync(secretsFolder).mode & 0o777, 0o700);
  await fleet.hubDaemon!.end('SIGTERM');
  for (const daemon of fleet.members.values()) await daemon.end('SIGTERM');
  assert.equal(filesThatHold(), [], 'nor after an orderly stop');
  for (const daemon of fleet.daemons) {
    assert.not(holds(daemon.log), 'no log of a process');
    assert.not(holds(JSON.stringify(daemon.lines)));
  }
});

async function waitFor<T>(look: () => T[]): Promise<T[]> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const found = look();
    if (found.length > 0) return found;
    if (performance.now() > deadline) throw new Error('no process of the task has the value');
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

test.run();
