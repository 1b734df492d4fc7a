import type { Assignment, AttemptResult } from '../../protocol/session.ts';
import type { Usage } from '../../protocol/usage.ts';

/** Runs one attempt from its assignment to a signed result on this member's disk. */
export interface AttemptRunner {
  /**
   * Resolves with a result whose blobs and envelope are on disk, whatever happened to the task; rejects only when
   * `signal` was aborted (the attempt was stopped: nothing is kept, no process is left).
   */
  run(assignment: Assignment, hooks: AttemptHooks, signal: AbortSignal): Promise<AttemptResult>;
  /** Takes the processor from all processes of all attempts, also from those to come, until `resume`. @default nothing runs that could be halted */
  suspend?(): void;
  resume?(): void;
  /** Ends what is kept for attempts to come; resolves when it is gone, and never rejects. @default nothing is kept */
  letGo?(): Promise<void>;
}

export interface AttemptHooks {
  /** The sandbox has the task: from here on it is `running`. */
  started(): void;
  progress(phase: 'fetch' | 'prepare' | 'run' | 'check' | 'converge', logBytes: number): void;
  /** All that models were asked so far; after each call. @default it is not said before the result */
  used?(usage: Usage): void;
  /** Live output as it comes, secrets already masked, controls not yet escaped. */
  output(bytes: Uint8Array): void;
  /** Gets blobs from the founder into this member's store. */
  fetch(blobs: string[], signal: AbortSignal): Promise<void>;
}
