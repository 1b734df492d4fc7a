import { createHash } from 'node:crypto';
import type { Assignment, AttemptResult } from '../../protocol/session.ts';
import { Random } from './random.ts';
import { standInReceipt, standInVerification } from './signer.ts';

/** What one attempt will do: decided by the seed and the lease, never by when it happens. */
export interface Script {
  startMs: number;
  runMs: number;
  /** Says `started` on the way. */
  begins: boolean;
  result(): AttemptResult;
}

/** How often attempts go wrong, and how. */
export interface Mishaps {
  task: number;
  check: number;
  environment: number;
  hang: number;
  verifierRed: number;
  verifierEnvironment: number;
  checksChanged: number;
}

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

type Failure = Pick<AttemptResult, 'reason' | 'fault' | 'detail' | 'exitCode'>;
const FAILURES: Record<'task' | 'check' | 'environment' | 'hang', Failure> = {
  task: { reason: 'task', fault: 'task', detail: 'the command ended with 1', exitCode: 1 },
  check: { reason: 'check', fault: 'task', detail: 'check 1 ended with 1', exitCode: 0 },
  environment: { reason: 'environment', fault: 'machine', detail: 'check 1: no such tool', exitCode: null },
  hang: { reason: 'timeout', fault: 'task', detail: 'out of time', exitCode: null },
};

export function scriptOf(
  mesh: string,
  seed: string,
  member: { peer: string; forger: boolean },
  assignment: Assignment,
  mishaps: Mishaps,
): Script {
  const { task, attempt, role } = assignment;
  const random = new Random(`${seed}/${task}/${attempt}/${member.peer}`);
  const failure = role === 'execute' ? failureOf(random, mishaps) : verifierFailure(random, mishaps);
  const red = role === 'verify' && random.chance(mishaps.verifierRed);
  const changed = random.chance(mishaps.checksChanged) ? ['test/check.sh'] : [];
  const runMs =
    failure === 'hang'
      ? random.between(40_000, 60_000)
      : random.between(5, random.pick([200, 4_000, 20_000]));
  return {
    startMs: random.between(1, 300),
    runMs,
    begins: random.chance(0.97),
    result: () => resultOf(mesh, member, assignment, failure, red, changed),
  };
}

function failureOf(random: Random, mishaps: Mishaps): keyof typeof FAILURES | null {
  for (const kind of ['task', 'check', 'environment', 'hang'] as const) {
    if (random.chance(mishaps[kind])) return kind;
  }
  return null;
}

const verifierFailure = (random: Random, mishaps: Mishaps): 'environment' | null =>
  random.chance(mishaps.verifierEnvironment) ? 'environment' : null;

function resultOf(
  mesh: string,
  { peer, forger }: { peer: string; forger: boolean },
  assignment: Assignment,
  failure: keyof typeof FAILURES | null,
  red: boolean,
  changed: string[],
): AttemptResult {
  const { task, attempt, epoch, role, correlation } = assignment;
  const executes = role === 'execute' && failure === null;
  const ok = { reason: null, fault: null, detail: null, exitCode: role === 'execute' ? 0 : null };
  const blob = (name: string) => ({
    blob: digest(`${name}${task}${attempt}`),
    bytes: 9,
    sha256: digest(name),
  });
  const result: AttemptResult = {
    task,
    attempt,
    epoch,
    role,
    correlation,
    outcome: failure === null ? 'succeeded' : 'failed',
    ...(failure === null ? ok : FAILURES[failure]),
    commit: executes ? digest(`commit${task}${attempt}`).slice(0, 40) : null,
    bundle: executes ? blob('bundle') : null,
    log: blob('log'),
    artifacts: [],
    envelope: null,
  };
  // A verifier that could not run the checks has nothing to sign.
  if (role === 'verify' && failure !== null) return result;
  const lied = forger ? forge(assignment) : assignment;
  const envelope =
    role === 'execute'
      ? standInReceipt(mesh, peer, lied, result, changed)
      : standInVerification(mesh, peer, lied, !red, red ? 'check 1 was red' : null);
  return { ...result, envelope };
}

/** The same facts for a nonce that was never given out. */
const forge = (assignment: Assignment): Assignment => ({ ...assignment, nonce: 'f'.repeat(32) });
