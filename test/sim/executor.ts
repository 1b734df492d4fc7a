import { createHash } from 'node:crypto';
import type { ReceiptFacts } from '../../hub/core/results/checks.ts';
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
  /** A model says something in place of a result, or is not sure of it. */
  signal: number;
  flaky: number;
}

/** What a model says; all but the last in place of a result. */
const SIGNALS = ['clarification_needed', 'task_rejection', 'partial_completion', 'low_confidence'] as const;
type Said = (typeof SIGNALS)[number] | null;

const digest = (text: string): string => createHash('sha256').update(text).digest('hex');

type Failure = Pick<AttemptResult, 'reason' | 'fault' | 'detail' | 'exitCode'>;
const FAILURES: Record<'task' | 'check' | 'environment' | 'hang', Failure> = {
  task: { reason: 'task', fault: 'task', detail: 'the command ended with 1', exitCode: 1 },
  check: { reason: 'check', fault: 'task', detail: 'check 1 ended with 1', exitCode: 0 },
  environment: { reason: 'environment', fault: 'machine', detail: 'check 1: no such tool', exitCode: null },
  hang: { reason: 'timeout', fault: 'task', detail: 'out of time', exitCode: null },
};

const SIGNALLED: Failure = { reason: 'signal', fault: 'task', detail: 'its model says so', exitCode: null };

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
  const pursues = role === 'execute' && assignment.spec.kind === 'code';
  // By a source of their own: runs of before there were signals stay what they were.
  const words = new Random(`${seed}/${task}/${attempt}/${member.peer}/says`);
  const said = pursues && failure === null && words.chance(mishaps.signal) ? words.pick(SIGNALS) : null;
  const flaky = assignment.spec.checks.length > 0 && words.chance(mishaps.flaky) ? [0] : [];
  const runMs =
    failure === 'hang'
      ? random.between(40_000, 60_000)
      : random.between(5, random.pick([200, 4_000, 20_000]));
  return {
    startMs: random.between(1, 300),
    runMs,
    begins: random.chance(0.97),
    result: () => resultOf(mesh, member, assignment, { failure, red, changed, said, flaky }),
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

/** How an attempt turns out. */
interface Fate {
  failure: keyof typeof FAILURES | null;
  red: boolean;
  changed: string[];
  said: Said;
  flaky: number[];
}

function resultOf(
  mesh: string,
  { peer, forger }: { peer: string; forger: boolean },
  assignment: Assignment,
  { failure, red, changed, said, flaky }: Fate,
): AttemptResult {
  const { task, attempt, epoch, role, correlation } = assignment;
  const signal = said === null || said === 'low_confidence' ? null : said;
  const executes =
    role === 'execute' && failure === null && (signal === null || signal === 'partial_completion');
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
    outcome: failure === null && signal === null ? 'succeeded' : 'failed',
    ...(failure !== null ? FAILURES[failure] : signal === null ? ok : SIGNALLED),
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
      ? standInReceipt(mesh, peer, lied, result, changed, workOf(assignment, said), flaky)
      : standInVerification(
          mesh,
          peer,
          lied,
          !red && flaky.length === 0,
          red || flaky.length > 0 ? 'check 1 was red' : null,
          red ? [] : flaky,
        );
  return { ...result, envelope };
}

/** What the receipt of a goal says of the model, which is the first that has not rejected the task. */
function workOf({ spec, rejectedBy = [] }: Assignment, said: Said): ReceiptFacts['work'] {
  if (spec.kind !== 'code') return null;
  const model = ['small', 'large'].find((one) => !rejectedBy.includes(one)) ?? 'small';
  const signal =
    said === null || said === 'low_confidence' ? {} : { signal: { kind: said, text: 'so it is' } };
  return { model, lowConfidence: said === 'low_confidence', ...signal };
}

/** The same facts for a nonce that was never given out. */
const forge = (assignment: Assignment): Assignment => ({ ...assignment, nonce: 'f'.repeat(32) });
