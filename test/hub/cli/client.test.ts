import { existsSync, mkdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { Readable } from 'node:stream';
import { Hono } from 'hono';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hubMain } from '../../../hub/cli/run.ts';
import { hiddenLine, type Keyboard } from '../../../hub/cli/secret.ts';
import type { ApiEnv } from '../../../node/api/http.ts';
import type { StatusObject, TaskDetail } from '../../../node/api/objects.ts';
import { serveApi } from '../../../node/api/server.ts';
import { nodeMain } from '../../../node/cli/run.ts';
import { writeReceiptNote } from '../../../node/submit/note.ts';
import { issueCertificate } from '../../../protocol/certificate.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import { buildReceipt } from '../../../protocol/receipt.ts';
import { signStatement } from '../../../protocol/statement.ts';
import { Sandbox } from '../../node/submit/repositories.ts';
import { certificateOf, fileBytes, keys, mesh, receipt } from '../../protocol/samples.ts';
import { gitEnv, runBin, TestHub } from '../api/hub.ts';
import type { TestMember } from '../core/fleet.ts';

async function withHub(body: (hub: TestHub, box: Sandbox) => Promise<void>): Promise<void> {
  using box = new Sandbox();
  const hub = await new TestHub().listen();
  try {
    await body(hub, box);
  } finally {
    await hub.close();
  }
}

/** Settles when a member has been given something to do in this role. */
async function given(hub: TestHub, member: TestMember, role: 'execute' | 'verify' = 'execute') {
  for (;;) {
    const found = [...member.running.values()].find((one) => one.role === role);
    if (found !== undefined) return found;
    await new Promise<void>((resolve) => {
      const step = hub.fleet.founder;
      hub.fleet.founder = (input) => {
        hub.fleet.founder = step;
        step(input);
        resolve();
      };
    });
  }
}

/** A member that gives this commit for the next task, and a second one that verifies it. */
async function mended(hub: TestHub, box: Sandbox, files: Record<string, string>): Promise<string> {
  const [worker, other] = [hub.fleet.join('m1', { owner: 'ann' }), hub.fleet.join('m2', { owner: 'bob' })];
  const assignment = await Promise.race([
    given(hub, worker).then((found) => ({ found, by: worker, verifier: other })),
    given(hub, other).then((found) => ({ found, by: other, verifier: worker })),
  ]);
  const { found, by, verifier } = assignment;
  const base = found.spec.repository?.base ?? '';
  const made = box.result('r', base, files, found.task);
  const bundle = await hub.blobs.put(readFileSync(made.path));
  const report = await hub.blobs.put(Buffer.from('all fine\n'));
  hub.fleet.start(by, found);
  const artifacts = [{ path: 'report.txt', ...report }];
  hub.fleet.finish(by, found, { commit: made.commit, bundle, artifacts });
  const check = await given(hub, verifier, 'verify');
  hub.fleet.start(verifier, check);
  hub.fleet.finish(verifier, check);
  return made.commit;
}

test('status, nodes and invite: text for a person, one JSON document with --json', () =>
  withHub(async (hub) => {
    hub.fleet.join('m1');
    const status = await hub.run(['status']);
    assert.is(status.code, 0);
    assert.match(status.out, /^machines {2}1 of 2 online, 0 of 2 slots used$/m);
    assert.match(status.out, /^ {2}m1 +online +0\/2$/m);
    assert.match(
      status.out,
      /^at risk\n {2}no replica yet: [\s\S]*? keeps a copy of the log:\n {4}mesh-hub invite --role worker --role replica$/m,
    );
    const { mesh, nodes, queue } = (await hub.run(['status', '--json'])).json();
    assert.is(mesh, 'ab'.repeat(32));
    assert.equal(nodes, { online: 1, total: 2 });
    assert.equal(queue, { queued: 0, running: 0 });
    const list = await hub.run(['node', 'list', '--json']);
    assert.is(list.json().next, null);
    assert.match((await hub.run(['node', 'list'])).out, /^NAME +STATE[\s\S]*^m1 +online/m);
    const invite = await hub.run(['invite', '--uses', '2']);
    assert.is(invite.out, 'sfi1-token\n', 'stdout is the token and nothing else');
    assert.match(invite.err, /good 2 times/);
    assert.not.match(status.out, /\x1b/, 'no colour where there is no terminal');
    assert.match((await hub.run(['node', 'list'], { tty: true })).out, /\x1b\[32monline/);
    assert.not.match((await hub.run(['node', 'list'], { tty: true, env: { NO_COLOR: '1' } })).out, /\x1b/);
  }));

test('errors go to stderr with the exit code of the contract; under --json as one object', () =>
  withHub(async (hub) => {
    const missing = await hub.run(['task', 'describe', 'aaaaaaaaaaaa', '--json']);
    assert.is(missing.code, 2);
    assert.is(missing.out, '');
    assert.equal(Object.keys(missing.error()), ['code', 'message', 'expected', 'got', 'hint']);
    assert.is(missing.error().code, 'SF_NOT_FOUND');
    const usage = await hub.run(['status', '--colour', '--json']);
    assert.is(usage.code, 2);
    assert.is(usage.error().code, 'SF_USAGE');
    const words = await hub.run(['status', '--colour']);
    assert.match(words.err, /^error: .*\(SF_USAGE\)\n {2}expected: .*\n {2}got: --colour\n {2}try: /);
    const nobody = await hub.run(['status', '--json'], { env: { MESH_HOME: '/nonexistent' } });
    assert.is(nobody.code, 3);
    assert.is(nobody.error().code, 'SF_UNREACHABLE');
    assert.is((await hub.run(['node', 'approve', '999-999-999'])).code, 2);
  }));

test('task run prints the id and returns', () =>
  withHub(async (hub) => {
    const done = await hub.run(['task', 'run', '--no-repo', '--correlation', 'ci-9', '--', 'echo', 'hi']);
    assert.is(done.code, 0, done.err);
    const id = done.out.trim();
    const task = (await hub.run(['task', 'describe', id, '--json'])).json() as unknown as TaskDetail;
    assert.equal(task.spec.kind === 'command' && task.spec.argv, ['echo', 'hi']);
    assert.is(task.correlation, 'ci-9');
    const listed = await hub.run(['task', 'list', '--state', 'queued', '--json']);
    assert.is((listed.json().items as { id: string }[])[0]?.id, id);
    assert.match((await hub.run(['task', 'why', id])).out, /^queued: /);
    assert.match((await hub.run(['task', 'history', id])).out, /task\.submitted +/);
    assert.is((await hub.run(['task', 'stop', id])).out, `${id} cancelled\n`);
  }));

test('task run --wait places branch and artifacts where it was typed, and exits by the result', () =>
  withHub(async (hub, box) => {
    box.repository('r', { 'a.txt': 'one\n' });
    box.write('r', 'scratch.txt', 'mine');
    const folder = join(box.path, 'r');
    const running = hub.run(
      ['task', 'run', '--check', 'true', '--artifact', '*.txt', '--wait', '--', 'true'],
      {
        cwd: folder,
      },
    );
    const commit = await mended(hub, box, { 'a.txt': 'two\n' });
    const done = await running;
    assert.is(done.code, 0, done.err);
    const id = done.out.trim();
    assert.is(box.git('r', 'rev-parse', `mesh/${id}`), commit);
    assert.is(box.read('r', `mesh-${id}/report.txt`), 'all fine\n');
    assert.match(done.err, /1 uncommitted change is not sent/);
    assert.match(done.err, new RegExp(`${id}: delivered, verified by m`));
    assert.is(box.git('r', 'rev-parse', '--abbrev-ref', 'HEAD'), 'main', 'nothing is checked out');

    const diff = await hub.run(['task', 'diff', id], { cwd: folder });
    assert.match(diff.out, /-one\n\+two\n/);
    const got = await hub.run(['task', 'get', id, '--output', 'elsewhere'], { cwd: folder });
    assert.is(got.code, 0, got.err);
    assert.ok(existsSync(join(folder, 'elsewhere/report.txt')));
    assert.is((await hub.run(['task', 'get', id, '--output', 'elsewhere'], { cwd: folder })).code, 2);
    const applied = await hub.run(['task', 'apply', id, '--json'], { cwd: folder });
    assert.is(applied.code, 0, applied.err);
    assert.is(box.read('r', 'a.txt'), 'two\n');
    assert.ok(hub.fleet.entries.some((entry) => entry.type === 'task.applied'));
    const receipt = await hub.run(['receipt', 'show', id, '--output', 'r.json'], { cwd: folder });
    assert.is(receipt.code, 0);
    assert.match(box.read('r', 'r.json'), new RegExp(id));
    assert.is((await hub.run(['receipt', 'show', id, '--output', 'r.json'], { cwd: folder })).code, 2);
  }));

test('a task that fails is exit 1 with its reason', () =>
  withHub(async (hub) => {
    const running = hub.run(['task', 'run', '--no-repo', '--wait', '--json', '--', 'false']);
    const member = hub.fleet.join('m1');
    const assignment = await given(hub, member);
    hub.fleet.start(member, assignment);
    hub.fleet.finish(member, assignment, {
      outcome: 'failed',
      reason: 'task',
      fault: 'task',
      detail: 'false ended with 1',
      exitCode: 1,
      commit: null,
      bundle: null,
    });
    const done = await running;
    assert.is(done.code, 1, done.err);
    const task = done.json();
    assert.is(task.state, 'failed');
    assert.is(task.reason, 'task');
    assert.match(done.err, /: failed\/task\nfalse ended with 1\n/);
  }));

test('who waits for a task is told why it does not go on, and sees the end of its output when it fails', () =>
  withHub(async (hub) => {
    hub.fleet.join('m1');
    let err = '';
    const running = hub.run(
      [
        '--dir',
        hub.dir,
        'task',
        'run',
        '--no-repo',
        '--label',
        'gpu=1',
        '--allow-waiting',
        '--wait',
        '--',
        'x',
      ],
      {
        onErr: (said) => {
          err = said;
          // Only what the founder says of it lets it go on.
          if (
            /waits: no member can take it: none fits \(founder.*m1 has no label gpu/.test(said) &&
            !labelled
          )
            label();
        },
      },
    );
    let labelled = false;
    const label = (): void => {
      labelled = true;
      const member = hub.fleet.join('m2', { labels: { gpu: '1' } });
      void given(hub, member).then(async (assignment) => {
        hub.output(assignment.task).end(`${'line\n'.repeat(30)}\x1b[2Jthe last\n`);
        hub.fleet.start(member, assignment);
        const failed = {
          outcome: 'failed',
          reason: 'task',
          fault: 'task',
          detail: 'x ended',
          exitCode: 1,
        } as const;
        hub.fleet.finish(member, assignment, { ...failed, commit: null, bundle: null });
      });
    };
    const done = await running;
    assert.is(done.code, 1, err);
    assert.match(done.err, /(^ {2}\| line\n){19}^ {2}\| \\x1b\[2Jthe last\nx ended\n/m);
    assert.match(
      done.err,
      new RegExp(`mesh-hub --dir ${hub.dir} task logs [a-z2-7]{12}`),
      'it can be typed as it stands',
    );
  }));

test('--follow --json prints a line for each event, the last one the whole task', () =>
  withHub(async (hub) => {
    const member = hub.fleet.join('m1');
    const running = hub.run(['task', 'run', '--no-repo', '--follow', '--json', '--', 'true']);
    const assignment = await given(hub, member);
    hub.output(assignment.task).end('some output');
    hub.fleet.start(member, assignment);
    hub.fleet.finish(member, assignment, { commit: null, bundle: null });
    const done = await running;
    assert.is(done.code, 0, done.err);
    const lines = done.out
      .trim()
      .split('\n')
      .map((line) => JSON.parse(line));
    assert.is(lines[0].event, 'submitted');
    assert.ok(lines.some((line) => line.event === 'output' && line.text === 'some output'));
    assert.is(lines.at(-1).state, 'delivered');
    assert.is(lines.at(-1).event, undefined);
  }));

test('Ctrl-C during --wait leaves the task running and says how to get at it, exit 130', () =>
  withHub(async (hub) => {
    const interrupt = new AbortController();
    const done = await hub.run(['task', 'run', '--no-repo', '--wait', '--', 'sleep', '9'], {
      signal: interrupt.signal,
      onOut: () => interrupt.abort(new Error('Ctrl-C')),
    });
    assert.is(done.code, 130);
    const id = done.out.trim();
    assert.match(done.err, new RegExp(`task get ${id}.*task stop ${id}`));
    assert.is(hub.fleet.task(id).state, 'queued');
  }));

test('a repository that cannot be used is exit 2 with a way out, and nothing is submitted', () =>
  withHub(async (hub, box) => {
    box.git('.', 'init', '-q', 'empty');
    box.repository('r');
    const run = (cwd: string, ...args: string[]) =>
      hub.run(['task', 'run', '--json', ...args, '--', 'true'], { cwd: join(box.path, cwd) });
    const empty = await run('empty');
    assert.is(empty.code, 2);
    assert.match(String(empty.error().message), /no commit yet/);
    const none = await run('.');
    assert.match(String(none.error().hint), /--repo PATH.*--no-repo/);
    const ref = await run('r', '--ref', 'nope');
    assert.is(ref.error().got, 'nope');
    assert.is(ref.error().code, 'SF_REPOSITORY');
    assert.is(hub.fleet.core.state.tasks.byId.size, 0);
    assert.is((await run('.', '--repo', 'r')).code, 0);
  }));

test('output on a terminal has its controls shown, elsewhere it is the bytes as they came', () =>
  withHub(async (hub) => {
    const id = hub.fleet.submit();
    const evil = 'a\x1b]0;pwned\x07b\n';
    hub.output(id).end(evil);
    const shown = await hub.run(['task', 'logs', '-f', id], { tty: true });
    assert.is(shown.out, 'a\\x1b]0;pwned\\x07b\n');
    hub.outputs.delete(id);
    hub.output(id).end(evil);
    assert.is((await hub.run(['task', 'logs', '-f', id])).out, evil);
    hub.outputs.delete(id);
    hub.output(id).end(evil);
    assert.is((await hub.run(['task', 'logs', '-f', id, '--json'])).out.split('\n').length, 3);
  }));

test('a secret is read from stdin and shown nowhere', () =>
  withHub(async (hub) => {
    const set = await hub.run(['secret', 'set', 'TOKEN'], { stdin: 'hunter2\n' });
    assert.is(set.code, 0, set.err);
    assert.is(hub.secrets.get('TOKEN'), 'hunter2\n');
    assert.match(set.err, /ends with a newline/);
    assert.not.match((await hub.run(['secret', 'set', 'TOKEN'], { stdin: 'hunter2' })).err, /newline/);
    assert.is((await hub.run(['secret', 'list'])).out, 'TOKEN\n');
    assert.not.match(set.out + set.err, /hunter2/);
    assert.not.match(JSON.stringify(hub.fleet.entries), /hunter2/);
    assert.is((await hub.run(['secret', 'remove', 'TOKEN'])).code, 0);
    assert.is((await hub.run(['secret', 'set', 'EMPTY'], { stdin: '' })).code, 2);
  }));

test('a secret typed on a terminal is one line, not shown; Ctrl-C sets nothing', async () => {
  const keyboard = (...pressed: string[]): Keyboard & { raw: boolean[] } =>
    Object.assign(Readable.from(pressed.map((keys) => Buffer.from(keys))), {
      raw: [] as boolean[],
      setRawMode(on: boolean) {
        this.raw.push(on);
      },
    });
  const keys = keyboard('hun', 'ta\x7f', 'er2 é\rrest');
  assert.is((await hiddenLine(keys)).toString(), 'hunter2 é');
  assert.equal(keys.raw, [true, false], 'the terminal is given back as it was');
  const given = keyboard('hunter2\x03');
  try {
    await hiddenLine(given);
    assert.unreachable();
  } catch (thrown) {
    assert.is((thrown as SuperfleetError).code, 'SF_INTERRUPTED');
  }
  assert.equal(given.raw, [true, false]);
});

test('the log is verified, tailed and exported', () =>
  withHub(async (hub, box) => {
    const verified = await hub.run(['ledger', 'verify', '--json']);
    assert.is(verified.json().size, 2);
    const tail = await hub.run(['ledger', 'tail', '--from', '0']);
    assert.match(tail.out, /^ +0 .*mesh\.created/);
    assert.is(((await hub.run(['ledger', 'tail', '--json'])).json().items as unknown[]).length, 2);
    assert.is((await hub.run(['ledger', 'export'])).out, 'line one\nline two\n');
    const file = await hub.run(['ledger', 'export', '--output', 'log.jsonl'], { cwd: box.path });
    assert.is(file.code, 0, file.err);
    assert.is(readFileSync(join(box.path, 'log.jsonl'), 'utf8'), 'line one\nline two\n');
  }));

test('the operator lets in, sends away, drains and shuts out', () =>
  withHub(async (hub) => {
    hub.fleet.join('m1');
    assert.match((await hub.run(['node', 'drain', 'm1'])).out, /^state +draining$/m);
    assert.match((await hub.run(['node', 'eligible', 'm1'])).out, /^state +online$/m);
    assert.is((await hub.run(['node', 'revoke', 'm1', '--reason', 'lost'])).code, 0);
    assert.is((await hub.run(['node', 'describe', 'nobody'])).code, 2);
    const draining = (await hub.run(['pause', '--drain', '--json'])).json();
    assert.equal([draining.paused, draining.draining, draining.unreached], [true, true, []]);
    assert.match(
      (await hub.run(['status'])).out,
      /draining: nothing more is given out until\s+"mesh-hub resume": nothing runs any\s+more/,
    );
    const paused = (await hub.run(['pause', '--json'])).json();
    assert.equal([paused.paused, paused.draining], [true, false]);
    assert.match((await hub.run(['capacity', 'show'])).out, /^ring +36 attempts at any time \(default\)$/m);
    assert.is((await hub.run(['capacity', 'set', '--elastic', '9'])).code, 2);
    assert.is((await hub.run(['capacity', 'set'])).code, 2);
    const set = (await hub.run(['capacity', 'set', '--ring', '80', '--json'])).json();
    assert.equal([set.ring, set.elastic, set.set], [80, 80, true]);
    assert.match((await hub.run(['status'])).out, /paused: nothing runs/);
    assert.is((await hub.run(['resume', '--json'])).json().paused, false);
  }));

test('receipt verify needs no process and no data folder; what is no receipt is not proved, exit 5', async () => {
  using box = new Sandbox();
  box.write('.', 'r.json', '{"format":"superfleet-receipt/1"}\n');
  for (const main of [hubMain, nodeMain]) {
    const options = { cwd: box.path, env: { ...gitEnv, MESH_HOME: '/nonexistent' } };
    const done = await runBin(main, ['receipt', 'verify', 'r.json', '--mesh', 'a'.repeat(64)], options);
    assert.is(done.code, 5);
    assert.match(done.out.trimEnd().split('\n').at(-1) ?? '', /^not proved: /);
    const json = await runBin(main, ['receipt', 'verify', 'r.json', '--json'], options);
    assert.is(json.json().proved, false);
    assert.is((await runBin(main, ['receipt', 'verify', 'nope.json'], options)).code, 2);
    assert.is((await runBin(main, ['receipt', 'verify'], options)).code, 2);
  }
});

test('a receipt against a repository, and out of its note, in both bins', async () => {
  using box = new Sandbox();
  const base = box.repository('r');
  const commit = box.commit('r', { 'a.txt': 'two\n' });
  const spec = { ...receipt.spec, repository: { id: base, name: 'r', ref: 'main', base } };
  const signed = signStatement(buildReceipt({ ...receipt, spec, commit }), keys.executor);
  const executor = issueCertificate(certificateOf('executor'), keys.log);
  const file = Buffer.from(fileBytes({ receipt: signed, verification: null, certificates: [executor] }));
  box.write('.', 'a receipt.json', file.toString());
  await writeReceiptNote(await box.open('r'), commit, file, { env: box.env });
  box.repository('other', { 'z.txt': 'z' });
  for (const main of [hubMain, nodeMain]) {
    const verify = (...words: string[]) =>
      runBin(main, ['receipt', 'verify', ...words], {
        cwd: box.path,
        env: { ...gitEnv, MESH_HOME: '/nonexistent' },
      });
    const last = ({ out }: { out: string }): string => out.trimEnd().split('\n').at(-1) ?? '';
    for (const words of [
      ['a receipt.json', '--repo', 'r', '--mesh', mesh],
      ['--repo', 'r', '--commit', 'main', '--mesh', mesh],
      ['--repo', 'r', '--mesh', mesh],
    ]) {
      const done = await verify(...words);
      assert.is(done.code, 0, done.out + done.err);
      assert.match(last(done), /^proved: /);
      assert.match(done.out, /^The history of HEAD holds it\.$/m);
    }
    const json = (await verify('--repo', 'r', '--mesh', mesh, '--json')).json();
    const about = json.repository as Record<string, unknown>;
    assert.equal(
      [json.proved, about.commit, about.there, about.inHead, about.parents],
      [true, commit, true, true, [base]],
    );
    const unknown = await verify('--repo', 'r');
    assert.equal([unknown.code, last(unknown)], [5, 'signature good, signer unknown']);
    const other = await verify('a receipt.json', '--repo', 'other', '--mesh', mesh);
    assert.is(other.code, 5);
    assert.match(last(other), /^not proved: it is of another repository/);
    const none = await verify('--repo', 'r', '--commit', base, '--mesh', mesh, '--json');
    assert.equal([none.code, none.error().code], [2, 'SF_NOT_FOUND']);
  }
});

test('a founder of the release before is asked by this program: its status has no overview, its why no remedies', async () => {
  using box = new Sandbox();
  const dir = join(box.path, 'data');
  mkdirSync(dir);
  const { machines, replicas, waits, tasks, failures, proposals, needs, risks, ...old } = JSON.parse(
    await withStatus(),
  ) as StatusObject;
  assert.ok(
    [machines, replicas, waits, tasks, failures, proposals, needs, risks].every((one) => one !== undefined),
  );
  const app = new Hono<ApiEnv>();
  app.get('/v1/status', (context) => context.json({ ...old, warnings: ['no replica'] }));
  app.get('/v1/tasks/:task/why', (context) =>
    context.json({ task: 'abcdefghijkl', state: 'queued', reasons: ['no slot'], position: 0, members: [] }),
  );
  const api = await serveApi(app, dir);
  try {
    const env = { MESH_HOME: dir, ...gitEnv };
    const status = await runBin(hubMain, ['status'], { env });
    assert.is(status.code, 0, status.err);
    assert.match(status.out, /^warning: no replica$/m);
    const why = await runBin(hubMain, ['task', 'why', 'abcdefghijkl'], { env });
    assert.is(why.code, 0, why.err);
    assert.match(why.out, /^queued: no slot$/m);
  } finally {
    await api.close();
  }
});

async function withStatus(): Promise<string> {
  let said = '';
  await withHub(async (hub) => {
    said = (await hub.run(['status', '--json'])).out;
  });
  return said;
}

test.run();
