import { createHash } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { acceptReceipt, acceptVerification } from '../../../protocol/acceptance.ts';
import type { Assignment, AttemptResult } from '../../../protocol/session.ts';
import { openStatement, parseSigned } from '../../../protocol/statement.ts';
import { artifactsDigest, type CommandSpecInput } from '../../../protocol/task.ts';
import { parseVerification } from '../../../protocol/verification.ts';
import { dropRoot } from '../../unprivileged.ts';
import { bytesOf, canRun, executorKey, MESH, Member, toVerify, verifierKey, World } from './harness.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;
const world = await World.make();
const repository = world.repository();
const base = await repository.commit({
  'greet.sh': 'echo Helo\n',
  'test.sh': '[ "$(sh greet.sh)" = Hello ]\n',
});
const executor = await Member.open(join(world.folder, 'executor'), world.founder);
const verifier = await Member.open(join(world.folder, 'verifier'), world.founder, 'spare-2', verifierKey);
test.after(async () => {
  await executor.runner.close();
  await verifier.runner.close();
  await world.remove();
});

const mend = ['sed', '-i', 's/Helo/Hello/', 'greet.sh'];

/** Executes a task; gives what the founder would then hand to a verifier. */
async function executed(spec: Partial<CommandSpecInput> = {}): Promise<{
  assignment: Assignment;
  result: AttemptResult;
  receipt: ReturnType<typeof acceptReceipt>;
}> {
  const full = { kind: 'command' as const, argv: mend, checks: ['sh test.sh'], ...spec };
  const assignment = await world.assignment(full, { repository, base });
  const { result } = await executor.run(assignment);
  assert.is(result.outcome, 'succeeded', result.detail ?? '');
  if (result.bundle !== null) await world.founder.put(await bytesOf(executor.blobs, result.bundle));
  const receipt = acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
  return { assignment, result, receipt };
}

/** A result with another bundle and commit in place of the executor's. */
async function forged(result: AttemptResult, bytes: Buffer, commit: string): Promise<AttemptResult> {
  return { ...result, commit, bundle: await world.founder.put(bytes) };
}

const factsOf = (result: AttemptResult) =>
  parseVerification(openStatement(parseSigned(result.envelope ?? ''), verifierKey.publicKey));

it('a good result is verified on another member, and the word binds receipt and nonce (promise 12)', async () => {
  const { assignment, result, receipt } = await executed();
  const asked = toVerify(assignment, result, receipt.digest);
  const { result: verified, seen } = await verifier.run(asked);
  assert.is(verified.outcome, 'succeeded', verified.detail ?? '');
  assert.equal(seen.phases, ['fetch', 'prepare', 'check']);
  assert.is(seen.started, 1);
  const { facts } = acceptVerification(
    { mesh: MESH, member: verifierKey.peer, assignment: asked, result: verified },
    receipt,
  );
  assert.is(facts.passed, true);
  await verifier.runner.close();
  assert.is(await verifier.blobs.has(result.bundle!.blob), false, 'the bundle goes with the attempt');
  assert.equal(facts.checks, [{ line: 'sh test.sh', exitCode: 0 }]);
});

it('a result without a commit is verified on the base', async () => {
  const { assignment, result, receipt } = await executed({ argv: ['true'], checks: ['grep Helo greet.sh'] });
  const { result: verified } = await verifier.run(toVerify(assignment, result, receipt.digest));
  assert.is(verified.outcome, 'succeeded', verified.detail ?? '');
});

it('the verifier puts the check files of the base in place, whatever the result changed', async () => {
  const { assignment, result, receipt } = await executed({
    argv: ['sh', '-c', 'sed -i s/Helo/Hello/ greet.sh; echo "exit 1" >test.sh'],
  });
  const asked = toVerify(assignment, result, receipt.digest);
  const { result: verified } = await verifier.run(asked);
  assert.is(verified.outcome, 'succeeded', verified.detail ?? '');
  assert.equal(factsOf(verified).checksChanged, ['test.sh']);
});

it('a result that is red elsewhere is not passed, and the word says so', async () => {
  // Green at the executor only: what git ignores does not cross.
  const { assignment, result, receipt } = await executed({
    argv: ['sh', '-c', 'echo hidden >.gitignore; touch hidden'],
    checks: ['test -e greet.sh', 'test -e hidden'],
  });
  const asked = toVerify(assignment, result, receipt.digest);
  const { result: verified } = await verifier.run(asked);
  assert.is(verified.outcome, 'failed');
  assert.is(verified.reason, 'check');
  const { facts } = acceptVerification(
    { mesh: MESH, member: verifierKey.peer, assignment: asked, result: verified },
    receipt,
  );
  assert.is(facts.passed, false);
  assert.equal(
    facts.checks.map(({ exitCode }) => exitCode),
    [0, 1],
  );
});

it('a check that is red and then green on the same files is flaky: not passed, and said which', async () => {
  const count = (red: number): string =>
    `echo runs >.gitignore; n=$(cat runs || echo 0); echo $((n + 1)) >runs; [ $n -ne ${red} ]`;
  const { assignment, result, receipt } = await executed({
    argv: ['sh', '-c', 'echo runs >.gitignore; echo 7 >runs; echo more >>greet.sh'],
    checks: ['test -e greet.sh', count(0), 'true'],
  });
  const asked = toVerify(assignment, result, receipt.digest);
  const { result: verified, log } = await verifier.run(asked);
  assert.equal([verified.outcome, verified.reason, verified.fault], ['failed', 'check', 'task']);
  const { facts } = acceptVerification(
    { mesh: MESH, member: verifierKey.peer, assignment: asked, result: verified },
    receipt,
  );
  assert.equal(
    [facts.passed, facts.checksFlaky, facts.detail?.slice(0, 15)],
    [false, [1], 'check 2 is flak'],
  );
  assert.equal(
    facts.checks.map(({ exitCode }) => exitCode),
    [0, 1, 0],
  );
  assert.match(log, /check 2 of 3 is flaky: red, then green on the same files/);
});

/** The task of an executor's result as a replica is given it. */
function toReplica(assignment: Assignment, result: AttemptResult, receipt: string): Assignment {
  const asked = toVerify(assignment, result, receipt);
  const replica = { artifacts: artifactsDigest(result.artifacts), log: result.log?.sha256 ?? null };
  return { ...asked, secrets: assignment.secrets, verify: { ...asked.verify!, replica } };
}

it('a replica runs the command itself, and passes what comes to the same', async () => {
  const made = await executed({
    argv: ['sh', '-c', 'sed -i s/Helo/Hello/ greet.sh; echo more >more.txt; rm test.sh; echo made >out'],
    checks: ['[ "$(sh greet.sh)" = Hello ]', '[ -z "$TOKEN" ]'],
    artifacts: ['out'],
  });
  const asked = toReplica(made.assignment, made.result, made.receipt.digest);
  const { result, log, seen } = await verifier.run(asked);
  assert.is(result.outcome, 'succeeded', result.detail ?? log);
  assert.is(seen.started, 1);
  assert.match(log, /the command: exit 0/);
  const { facts } = acceptVerification(
    { mesh: MESH, member: verifierKey.peer, assignment: asked, result },
    made.receipt,
  );
  assert.equal([facts.passed, facts.replica, facts.checks.length], [true, true, 2]);
  assert.equal(result.artifacts, [], 'what it made itself goes with the attempt');
  // The same without a check: the command is what proves it.
  const bare = await executed({ checks: [] });
  const again = toReplica(bare.assignment, bare.result, bare.receipt.digest);
  const { result: word } = await verifier.run(again);
  assert.is(word.outcome, 'succeeded', word.detail ?? '');
  acceptVerification({ mesh: MESH, member: verifierKey.peer, assignment: again, result: word }, bare.receipt);
});

it('a replica that makes other files, other artifacts, or fails, does not pass, and says so', async () => {
  const cases: [string, Partial<CommandSpecInput>, RegExp][] = [
    [
      'tree',
      { argv: ['sh', '-c', 'date +%s.%N >when.txt'] },
      /makes something else of when\.txt on this machine/,
    ],
    [
      'artifacts',
      { argv: ['sh', '-c', 'date +%s.%N >out; echo out >.gitignore'], artifacts: ['out'] },
      /other artifacts/,
    ],
  ];
  for (const [name, spec, why] of cases) {
    const { assignment, result, receipt } = await executed({ ...spec, checks: [] });
    const { result: word } = await verifier.run(toReplica(assignment, result, receipt.digest));
    assert.equal([word.outcome, word.reason, word.fault], ['failed', 'check', 'task'], name);
    assert.match(word.detail ?? '', why);
    assert.equal([factsOf(word).passed, factsOf(word).replica], [false, true]);
  }
  // Its secret is another: so is how it ends.
  const spec = { argv: ['sh', '-c', '[ "$TOKEN" = right ]'], secrets: ['TOKEN'], checks: [] };
  const assignment = await world.assignment({ kind: 'command', ...spec }, { repository, base });
  assignment.secrets = { TOKEN: 'right' };
  const { result } = await executor.run(assignment);
  const { digest } = acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
  const asked = toReplica(assignment, result, digest);
  assert.is((await verifier.run(asked)).result.outcome, 'succeeded');
  const wrong = { ...asked, attempt: 7, secrets: { TOKEN: 'wrong' } };
  const { result: word } = await verifier.run(wrong);
  assert.match(word.detail ?? '', /^on this machine: the command exited with 1/);
});

it('of a task with neither repository nor artifacts the log is what must be the same', async () => {
  for (const [line, same] of [
    ['echo the same; echo always >&2', true],
    ['date +%s.%N', false],
  ] as const) {
    const spec = { kind: 'command' as const, argv: ['sh', '-c', line], checks: ['echo checked'] };
    const assignment = await world.assignment(spec, null);
    const { result } = await executor.run(assignment);
    const receipt = acceptReceipt({ mesh: MESH, member: executorKey.peer, assignment, result });
    const { result: word } = await verifier.run(toReplica(assignment, result, receipt.digest));
    assert.is(word.outcome, same ? 'succeeded' : 'failed', word.detail ?? '');
    if (!same) assert.match(word.detail ?? '', /printed something else on this machine/);
  }
});

it('checks of a verifier get the public environment and no secret', async () => {
  const { assignment, result, receipt } = await executed({
    env: { PUBLIC: 'yes' },
    checks: ['[ "$PUBLIC" = yes ] && [ -z "$TOKEN" ]'],
  });
  const asked = { ...toVerify(assignment, result, receipt.digest), secrets: { TOKEN: 'x' } };
  const { result: verified } = await verifier.run(asked);
  assert.is(verified.outcome, 'succeeded', verified.detail ?? '');
});

it("a check that cannot start here is the machine's fault, and no word is signed", async () => {
  const { assignment, result, receipt } = await executed();
  const asked = toVerify(assignment, result, receipt.digest);
  const { result: verified } = await verifier.run({
    ...asked,
    spec: { ...asked.spec, checks: ['no-such-checker'] },
  });
  assert.is(verified.reason, 'environment');
  assert.is(verified.fault, 'machine');
  assert.match(verified.detail ?? '', /no-such-checker on spare-2/);
  assert.is(verified.envelope, null);
});

it('what the executor says of itself does not count: a bundle that is bad in any way is not passed', async () => {
  const { assignment, result, receipt } = await executed();
  const bytes = await bytesOf(executor.blobs, result.bundle!);
  const branch = `refs/heads/mesh/${assignment.task}`;
  const trailer = `Superfleet-Task: ${assignment.task}`;

  const flipped = Buffer.from(bytes);
  flipped[bytes.length - 30]! ^= 1;
  /** A bundle of a commit that a lying executor makes of the base's tree. */
  const lie = async (
    message: string,
    parents: string[],
    prerequisites = [base],
  ): Promise<[Buffer, string]> => {
    const tree = repository.git('rev-parse', `${base}^{tree}`);
    const args = parents.flatMap((parent) => ['-p', parent]);
    const commit = repository.git('commit-tree', tree, ...args, '-m', message);
    repository.git('update-ref', branch, commit);
    const path = join(world.folder, 'lie.bundle');
    repository.git('bundle', 'create', '-q', path, branch, ...prerequisites.map((one) => `^${one}`));
    return [await readFile(path), commit];
  };
  const other = await repository.commit({ other: 'x' });
  const cases: [string, Buffer, string, RegExp][] = [
    ['flipped bit', flipped, result.commit!, /does not unpack/],
    ['cut off', bytes.subarray(0, bytes.length - 40), result.commit!, /does not unpack/],
    ['another commit', bytes, 'e'.repeat(40), /carries .* where .* was announced/],
    [
      'extra refs',
      Buffer.from(bytes.toString('latin1').replace('\n\n', `\n${base} refs/heads/main\n\n`), 'latin1'),
      result.commit!,
      /2 refs/,
    ],
    [
      'another branch',
      Buffer.from(bytes.toString('latin1').replace(branch, 'refs/heads/main'), 'latin1'),
      result.commit!,
      /its ref is/,
    ],
    ['no trailer', ...(await lie('x', [base])), /trailer/],
    ['another task', ...(await lie(`x\n\nSuperfleet-Task: aaaaaaaaaaaa`, [base])), /trailer/],
    ['two parents', ...(await lie(`x\n\n${trailer}`, [base, other])), /was not announced|one parent/],
    ['another parent', ...(await lie(`x\n\n${trailer}`, [other], [base])), /one parent/],
    ['no parent', ...(await lie(`x\n\n${trailer}`, [], [])), /does not rest on the base/],
  ];
  for (const [name, forgedBytes, commit, why] of cases) {
    const lied = await forged(result, forgedBytes, commit);
    const { result: verified } = await verifier.run({
      ...toVerify(assignment, lied, receipt.digest),
      epoch: 2,
    });
    assert.is(verified.reason, 'check', `${name}: ${verified.detail}`);
    assert.match(verified.detail ?? '', why, name);
    assert.is(factsOf(verified).passed, false, name);
    await verifier.runner.forget(verified);
  }
  const swapped = {
    ...result,
    bundle: { ...result.bundle!, sha256: createHash('sha256').update('x').digest('hex') },
  };
  const { result: verified } = await verifier.run({
    ...toVerify(assignment, swapped, receipt.digest),
    epoch: 3,
  });
  assert.match(verified.detail ?? '', /not the one that was signed/);
  // And the honest one still passes there.
  const honest = await verifier.run({ ...toVerify(assignment, result, receipt.digest), epoch: 4 });
  assert.is(honest.result.outcome, 'succeeded', honest.result.detail ?? '');
});

it('a result that unpacks to more than the workspace may hold is not passed, and nothing is written', async () => {
  const { assignment, result, receipt } = await executed();
  const big = world.repository('big');
  big.git('fetch', '-q', repository.path, `${base}:refs/heads/from`);
  big.git('checkout', '-q', 'from');
  const blob = big.gitWith(Buffer.alloc(64 * 1024 * 1024), 'hash-object', '-w', '--stdin');
  const lines = Array.from({ length: 200 }, (_, index) => `100644 blob ${blob}\tzeros-${index}`).join('\n');
  const tree = big.gitWith(`${lines}\n`, 'mktree');
  const commit = big.git('commit-tree', tree, '-p', base, '-m', `x\n\nSuperfleet-Task: ${assignment.task}`);
  const branch = `refs/heads/mesh/${assignment.task}`;
  big.git('update-ref', branch, commit);
  const path = join(world.folder, 'big.bundle');
  big.git('bundle', 'create', '-q', path, branch, `^${base}`);
  const bytes = await readFile(path);
  assert.ok(bytes.length < 2 * 1024 * 1024);
  const { result: verified } = await verifier.run({
    ...toVerify(assignment, await forged(result, bytes, commit), receipt.digest),
    epoch: 2,
  });
  assert.is(verified.reason, 'check');
  assert.match(verified.detail ?? '', /unpacks to more than fits/);
});

it("a result never enters the verifier's cache", async () => {
  const { assignment, result, receipt } = await executed({
    argv: ['sh', '-c', 'sed -i s/Helo/Hello/ greet.sh; echo unique-canary >canary'],
  });
  await verifier.run(toVerify(assignment, result, receipt.digest));
  const probe = await world.assignment(
    { kind: 'command', argv: ['sh', '-c', `git cat-file -e ${result.commit} && exit 1; exit 0`] },
    { repository, base },
  );
  const { result: probed } = await verifier.run(probe);
  assert.is(probed.outcome, 'succeeded', probed.detail ?? '');
});

it('without checks there is nothing to pass', async () => {
  const { assignment, result, receipt } = await executed({ checks: [] });
  const { result: verified } = await verifier.run(toVerify(assignment, result, receipt.digest));
  assert.is(verified.reason, 'check');
  assert.is(factsOf(verified).passed, false);
});

test.run();
