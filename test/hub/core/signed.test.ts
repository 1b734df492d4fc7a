import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { signedChecks } from '../../../hub/core/results/checks.ts';
import type { Receipt } from '../../../protocol/receipt.ts';
import { CONFIDENCE } from '../../../protocol/task.ts';
import { Fleet, resultOf } from './fleet.ts';
import { keys, signedReceipt, signedVerification } from './true-signatures.ts';

/** The same core with the signatures of the product. */
function fleetOfTwo(onlyAda = false) {
  const fleet = new Fleet({ checks: signedChecks });
  const ada = fleet.join('ada', { peer: keys.ada.peer });
  const bob = onlyAda ? null : fleet.join('bob', { peer: keys.bob.peer });
  const id = fleet.submit({ on: 'ada' });
  const assignment = fleet.running(ada);
  ada.running.clear();
  return { fleet, ada, bob, id, assignment };
}

test('receipt and verification with their true signatures bring a task to delivered (promise 12)', () => {
  const { fleet, ada, bob, id, assignment } = fleetOfTwo();
  const result = signedReceipt(assignment, resultOf(ada.peer, assignment));
  fleet.member(ada, { type: 'finished', result });
  const verify = fleet.running(bob!, 'verify');
  fleet.member(bob!, { type: 'finished', result: signedVerification(verify, resultOf(bob!.peer, verify)) });
  assert.is(fleet.task(id).converged?.confidence, CONFIDENCE.verified);
});

const forgeries: [string, Partial<Receipt>][] = [
  ['another nonce', { nonce: 'f'.repeat(32) }],
  ['another attempt', { attempt: 2 }],
  ['another epoch', { epoch: 2 }],
  ['another executor', { executor: keys.bob.peer }],
  ['another mesh', { mesh: 'cd'.repeat(32) }],
  ['another commit', { commit: 'e'.repeat(40) }],
];
for (const [what, change] of forgeries) {
  test(`a receipt that signs ${what} is refused (promise 12)`, () => {
    const { fleet, ada, id, assignment } = fleetOfTwo(true);
    const result = signedReceipt(assignment, resultOf(ada.peer, assignment), change);
    fleet.member(ada, { type: 'finished', result });
    assert.is(fleet.task(id).accepted, null);
    assert.is(fleet.task(id).lastEnd?.reason, 'refused');
  });
}

test.run();
