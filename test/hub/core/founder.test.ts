import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Fleet } from './fleet.ts';

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

test.run();
