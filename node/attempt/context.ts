import type { WorkDone } from '../../protocol/receipt.ts';
import type { Assignment, ResultBlob } from '../../protocol/session.ts';
import type { SignedStatement } from '../../protocol/statement.ts';
import type { Artifact } from '../../protocol/task.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { Environments } from '../environment/environments.ts';
import type { RepositoryCache } from '../git/repository-cache.ts';
import type { SandboxAhead } from '../sandbox/ahead.ts';
import type { GoalWorker } from './goal.ts';
import type { AttemptLog } from './log.ts';
import type { ResultBlobs } from './result-blobs.ts';
import type { AttemptHooks } from './types.ts';

/** What the steps of one attempt share. */
export interface AttemptContext {
  assignment: Assignment;
  hooks: AttemptHooks;
  signal: AbortSignal;
  sandbox: SandboxAhead;
  blobs: ResultBlobs;
  cache: RepositoryCache;
  /** What pursues goals on this machine; null: nothing does. */
  worker: GoalWorker | null;
  /** What repositories depend on; null: nothing is prepared on this machine. */
  environments: Environments | null;
  /** Private folder of the attempt; deleted with it. */
  work: string;
  log: AttemptLog;
  mesh: string;
  member: { readonly id: string; readonly name: string };
  sign(statement: Uint8Array): SignedStatement | Promise<SignedStatement>;
  /** Unix ms. */
  time(): number;
  startedAt: number;
}

/** What an attempt found out, filled as it goes; what is not reached keeps its first value. */
export interface AttemptFacts {
  /** The command's; null where it never ran or a signal ended it. */
  exitCode: number | null;
  /** The task's command, or a check of a verification, was started. */
  ran: boolean;
  checks: { line: string; exitCode: number | null }[];
  checksChanged: string[];
  /** Places of checks that said both red and green of the same files, in the order in which they were found. */
  checksFlaky: number[];
  commit: string | null;
  bundle: ResultBlob | null;
  artifacts: Artifact[];
  /** Commit and bundle are a part of the goal, to be returned with the failure. */
  partial: boolean;
  /** What a model did; null where none was asked. */
  work: WorkDone | null;
  /** What models were asked; null where none could be. */
  usage: Usage | null;
}

export const noFacts = (): AttemptFacts => ({
  exitCode: null,
  ran: false,
  checks: [],
  checksChanged: [],
  checksFlaky: [],
  commit: null,
  bundle: null,
  artifacts: [],
  partial: false,
  work: null,
  usage: null,
});
