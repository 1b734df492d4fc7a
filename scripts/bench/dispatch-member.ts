/**
 * A member process of the benchmark `dispatch`: a real host, member core and driver, and the wire of any member. In place of
 * its executor stands one that does nothing: no workspace, no sandbox, no command is run. It signs a receipt of success at once.
 */
import { generateKeyPair } from '@libp2p/crypto/keys';
import type { AttemptRunner } from '../../node/attempt/types.ts';
import { BatchSigner } from '../../node/daemon/batch-signer.ts';
import { createHost } from '../../node/network/host.ts';
import { signingKeyFromSeed } from '../../protocol/keys.ts';
import { buildReceipt } from '../../protocol/receipt.ts';
import { type Assignment, type AttemptResult, leaseKey } from '../../protocol/session.ts';
import { encodeSigned } from '../../protocol/statement.ts';
import { Ends } from './dispatch-ends.ts';
import { IDLE_CAPACITY, lightMember } from './light-member.ts';

const limits = { memory: 'cgroup', processes: 'cgroup', disk: 'watched' } as const;

/** Returns at once, with the receipt of a command that exited 0. */
function runsNothing(
  mesh: string,
  executor: string,
  signer: BatchSigner,
  began: (assignment: Assignment) => void,
): AttemptRunner {
  return {
    run: async (assignment, hooks): Promise<AttemptResult> => {
      began(assignment);
      hooks.started();
      const { task, attempt, epoch, nonce, role, correlation, spec } = assignment;
      const now = Date.now();
      const statement = buildReceipt({
        mesh,
        task,
        attempt,
        epoch,
        nonce,
        executor,
        spec,
        sandbox: 'bubblewrap',
        limits,
        startedAt: now,
        finishedAt: now,
        outcome: 'succeeded',
        reason: null,
        exitCode: 0,
        work: null,
        checks: [],
        checksChanged: [],
        commit: null,
        bundle: null,
        log: null,
        artifacts: [],
      });
      return {
        task,
        attempt,
        epoch,
        role,
        correlation,
        outcome: 'succeeded',
        reason: null,
        fault: null,
        detail: null,
        exitCode: 0,
        commit: null,
        bundle: null,
        log: null,
        artifacts: [],
        envelope: encodeSigned(await signer.sign(statement)),
      };
    },
  };
}

async function main(token: string, name: string, slots: number): Promise<void> {
  const privateKey = await generateKeyPair('Ed25519');
  const key = signingKeyFromSeed(privateKey.raw.subarray(0, 32));
  const host = await createHost({ privateKey, listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false });
  const signer = new BatchSigner(key);
  const ends = new Ends();
  /** The payload's number by its lease. */
  const numbers = new Map<string, number>();
  const stop = await lightMember({
    host,
    token,
    name,
    capacity: { ...IDLE_CAPACITY, slots, sandbox: 'bubblewrap', limits },
    runner: (mesh) =>
      runsNothing(mesh, host.peer, signer, (assignment) => {
        const { spec } = assignment;
        numbers.set(leaseKey(assignment), Number(spec.kind === 'command' ? spec.argv[1] : Number.NaN));
      }),
    settled: (lease) => {
      ends.add(numbers.get(leaseKey(lease))!);
      numbers.delete(leaseKey(lease));
    },
    refused: (message) => process.send?.({ event: 'failed', message }),
  });
  process.send?.({ event: 'ready' });
  await new Promise((resolve) => process.once('message', resolve));
  await stop();
  process.disconnect();
}

main(process.argv[2]!, process.argv[3]!, Number(process.argv[4])).catch((error: unknown) => {
  process.send?.({ event: 'failed', message: String(error) });
  process.exit(1);
});
