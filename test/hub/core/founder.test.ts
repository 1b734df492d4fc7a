import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { FounderInput } from '../../../hub/core/types.ts';
import type { Entry } from '../../../ledger/lines/entry.ts';
import { checkpointLineBytesMax } from '../../../ledger/log/log-options.ts';
import { batchBytesMax } from '../../../protocol/limits.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { Fleet, LOCAL } from './fleet.ts';

test('a task goes to a member, its result is fetched and verified by another, and it ends delivered', () => {
  const fleet = new Fleet();
  const [ada, bob] = [fleet.join('ada'), fleet.join('bob')];
  const id = fleet.submit();
  const [executor, verifier] = ada.running.size > 0 ? [ada, bob] : [bob, ada];
  assert.is(fleet.task(id).state, 'assigned');
  fleet.start(executor, fleet.running(executor));
  assert.is(fleet.task(id).state, 'running');
  fleet.finish(executor, fleet.running(executor));
  assert.is(fleet.task(id).state, 'executed');
  fleet.finish(verifier, fleet.running(verifier, 'verify'));
  const task = fleet.task(id);
  assert.is(task.state, 'delivered');
  assert.is(task.converged?.verified, true);
  assert.is(task.converged?.confidence, 0.9);
  assert.is(task.converged?.executor, executor.peer);
  assert.is(task.converged?.verifier, verifier.peer);
  assert.equal(executor.core.attempts, []);
});

test('a snapshot that was made is said in the log, and nothing else follows from it', () => {
  const fleet = new Fleet();
  const id = fleet.submit();
  const { size } = fleet.core.state.mesh;
  const hex = 'a'.repeat(64);
  const snapshot = {
    size: 2,
    root: hex,
    frontier: [hex],
    reducers: [{ name: 'mesh', version: 2, digest: hex }],
  };
  const [append, ...others] = fleet.core.step({ type: 'snapshotted', snapshot }, fleet.clock());
  assert.is(append?.type, 'append');
  if (append?.type === 'append') {
    const [{ type, body }] = append.made.map(({ entry }) => entry) as [Entry];
    assert.equal([append.made.length, type, body], [1, 'log.snapshot', snapshot]);
  }
  assert.equal(others, []);
  assert.is(fleet.core.state.mesh.size, size + 1, 'it is counted');
  assert.is(fleet.task(id).state, 'queued');
});

test('a step that decides on more than a batch of the log holds appends it in parts, each of which fits one', () => {
  const fleet = new Fleet();
  const checks = Array.from({ length: 12 }, () => 'x'.repeat(4096));
  const spec = taskSpec.parse({ kind: 'command', argv: ['true'], checks });
  const inputs = Array.from({ length: 100 }, (_, request): FounderInput => {
    const operation = { op: 'task.submit', spec, bundle: null, correlation: null } as const;
    return { type: 'request', request, by: LOCAL, operation };
  });
  const { size } = fleet.core.state.mesh;
  const appends = fleet.core.stepAll(inputs, fleet.clock()).filter((effect) => effect.type === 'append');
  for (const { made } of appends) {
    const bytes = made.reduce((sum, { length }) => sum + length + 1, 0);
    assert.ok(bytes + checkpointLineBytesMax <= batchBytesMax, `${bytes} bytes`);
  }
  const indexes = appends.flatMap(({ made }) => made.map(({ entry }) => entry.index));
  assert.ok(indexes.length >= 100);
  assert.equal(
    indexes,
    indexes.map((_, at) => size + at),
  );
});

test.run();
