import type { WorkDone } from '../../protocol/receipt.ts';
import type { Assignment, ResultBlob } from '../../protocol/session.ts';
import type { Artifact } from '../../protocol/task.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { BlobStore } from '../blobs/types.ts';
import type { Environments } from '../environment/environments.ts';
import type { EnvironmentStore } from '../environment/store.ts';
import type { RepositoryCache } from '../git/repository-cache.ts';
import type { SandboxAhead } from '../sandbox/ahead.ts';
import type { GoalWorker } from './goal.ts';
import type { AttemptLog } from './log.ts';
import type { AttemptHooks } from './types.ts';

/** The blobs of this machine, as an attempt uses them: what it puts or holds stays until it lets go of it. */
export interface AttemptBlobs {
  readonly store: Pick<BlobStore, 'has' | 'read'> & {
    /** As of `BlobStore`. */
    path(blob: string): string | null | Promise<string | null>;
  };
  /** Puts and holds a blob. */
  put(source: AsyncIterable<Uint8Array> | Uint8Array): Promise<ResultBlob>;
  hold(blob: string): void;
  release(blob: string): void;
  /** Resolves when nothing is being deleted. */
  settled(): Promise<void>;
}

/** What repositories depend on, as an attempt uses it. */
export interface AttemptEnvironments extends Pick<Environments, 'hosts' | 'versions' | 'shipped'> {
  store(): Promise<Pick<EnvironmentStore, 'use' | 'prepare'>>;
}

/** What the steps of one attempt share. */
export interface AttemptContext {
  assignment: Assignment;
  hooks: AttemptHooks;
  signal: AbortSignal;
  sandbox: SandboxAhead;
  blobs: AttemptBlobs;
  cache: RepositoryCache;
  /** What pursues goals on this machine; null: nothing does. */
  worker: GoalWorker | null;
  /** What repositories depend on; null: nothing is prepared on this machine. */
  environments: AttemptEnvironments | null;
  /** Private folder of the attempt; deleted with it. */
  work: string;
  log: AttemptLog;
  member: { readonly id: string; readonly name: string };
  /** Unix ms. */
  time(): number;
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
