import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Assignment, ResultBlob } from '../../protocol/session.ts';
import type { FailureReason, Fault } from '../../protocol/task.ts';
import type { RepositoryCache } from '../git/repository-cache.ts';
import { SandboxAhead } from '../sandbox/ahead.ts';
import type { Sandbox } from '../sandbox/types.ts';
import {
  type AttemptBlobs,
  type AttemptContext,
  type AttemptEnvironments,
  type AttemptFacts,
  noFacts,
} from './context.ts';
import { execute } from './execute.ts';
import { AttemptFailure, asFailure } from './failure.ts';
import type { GoalWorker } from './goal.ts';
import { AttemptLog } from './log.ts';
import type { AttemptHooks } from './types.ts';
import { verify } from './verify.ts';

/** One attempt, as whatever does its work is told of it. */
export interface AttemptOrder {
  assignment: Assignment;
  /** Private folder of the attempt, which is there and empty. */
  work: string;
  member: { readonly id: string; readonly name: string };
}

/** What the work of an attempt needs of this machine. */
export interface AttemptParts {
  sandbox: Sandbox;
  blobs: AttemptBlobs;
  cache: RepositoryCache;
  /** What pursues goals; null: tasks of kind `code` are refused. */
  worker: GoalWorker | null;
  /** What repositories depend on; null: nothing is prepared. */
  environments: AttemptEnvironments | null;
  /** Wall clock in Unix ms. */
  time(): number;
}

/** Why an attempt ended without success. */
export interface Failed {
  reason: FailureReason;
  fault: Fault;
  /** For a person, secrets masked. */
  message: string;
  failedModels: string[];
}

/** An attempt that was done to its end. Every blob that it names is held. */
export interface Performed {
  facts: AttemptFacts;
  /** Null: it succeeded. */
  failure: Failed | null;
  /** Null: the store did not take it. */
  log: ResultBlob | null;
}

/**
 * Does the work of one attempt, by its role: whatever happens to the task, it resolves with what came of it. Rejects only when
 * `signal` was aborted; then it holds no blob, and no process is left.
 */
export async function performAttempt(
  { assignment, work, member }: AttemptOrder,
  parts: AttemptParts,
  hooks: AttemptHooks,
  signal: AbortSignal,
): Promise<Performed> {
  signal.throwIfAborted();
  const sandbox = new SandboxAhead(parts.sandbox, signal);
  // Checks get none, so a verifier has them only where it runs the command itself.
  const runs = assignment.role === 'execute' || assignment.verify?.replica !== undefined;
  const secrets = runs ? assignment.secrets : {};
  const log = new AttemptLog(join(work, 'log'), secrets, (bytes) => hooks.output(bytes));
  const context: AttemptContext = {
    ...parts,
    assignment: { ...assignment, secrets },
    hooks,
    signal,
    sandbox,
    work,
    log,
    member,
  };
  const facts = noFacts();
  try {
    let failure: AttemptFailure | null = null;
    try {
      await (assignment.role === 'execute' ? execute(context, facts) : verifyAssigned(context, facts));
    } catch (error) {
      signal.throwIfAborted();
      failure = asFailure(error, member.name);
    }
    await sandbox.close();
    return await concluded(context, facts, failure);
  } catch (error) {
    for (const blob of returned(facts)) parts.blobs.release(blob);
    throw error;
  } finally {
    await sandbox.close();
    await log.abandon();
  }
}

/** The log into the store, whatever happens: what the disk cannot hold makes a failure of its own, which returns less. */
async function concluded(
  context: AttemptContext,
  facts: AttemptFacts,
  failure: AttemptFailure | null,
): Promise<Performed> {
  const { blobs, log, member, assignment, signal } = context;
  let ending = failure;
  const failed = (): Failed | null =>
    ending === null
      ? null
      : {
          reason: ending.reason,
          fault: ending.fault,
          message: log.masked(ending.message),
          failedModels: [...ending.failedModels],
        };
  for (let tries = 0; tries < 2; tries += 1) {
    if (ending !== null && !facts.partial) dropResult(facts, assignment, blobs);
    try {
      const stored = await log.finish(blobs);
      return { facts, failure: failed(), log: stored };
    } catch (error) {
      signal.throwIfAborted();
      ending = unconcluded(error, member.name);
      facts.checksChanged = [];
      facts.partial = false;
    }
  }
  dropResult(facts, assignment, blobs);
  return { facts, failure: failed(), log: null };
}

/** What kept an attempt from being put down as it ended: too much of it is the task's fault, anything else the machine's. */
export function unconcluded(error: unknown, member: string): AttemptFailure {
  const tooLarge = error instanceof SuperfleetError && error.code === 'SF_FULL';
  if (!tooLarge) return asFailure(error, member);
  return new AttemptFailure('task', 'task', `${error.message}; ${error.hint ?? error.expected ?? ''}`);
}

/** A failed attempt returns its log and its receipt, and neither commit nor artifacts. */
export function dropResult(
  facts: AttemptFacts,
  { role }: Assignment,
  blobs: Pick<AttemptBlobs, 'release'>,
): void {
  for (const blob of returned(facts)) blobs.release(blob);
  facts.bundle = null;
  facts.artifacts = [];
  if (role === 'execute') facts.commit = null;
}

/** Blobs of what an attempt returns, its log apart. */
export const returned = (facts: AttemptFacts): string[] => [
  ...(facts.bundle === null ? [] : [facts.bundle.blob]),
  ...facts.artifacts.map(({ blob }) => blob),
];

function verifyAssigned(context: AttemptContext, facts: AttemptFacts): Promise<void> {
  const { verify: of } = context.assignment;
  if (of === null) throw new AttemptFailure('environment', 'machine', 'nothing was given to verify');
  return verify(context, of, facts);
}
