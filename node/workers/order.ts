import type { AttemptOrder } from '../attempt/perform.ts';
import type { AgentConfig } from '../config.ts';
import type { AllowedHost } from '../environment/admission.ts';
import type { PreparedFile } from '../environment/prepared.ts';
import type { CacheBounds } from '../git/repository-cache.ts';
import type { SandboxOptions } from '../sandbox/bubblewrap.ts';
import type { McpConfig } from '../worker/mcp/owner.ts';

/** An attempt as a worker is told of it: plain values, and no key of this machine's. */
export interface WorkerOrder extends AttemptOrder {
  sandbox: SandboxOptions;
  /** The cache of repositories, which all workers use; they take turns by asking. */
  cache: { folder: string; bounds: CacheBounds };
  /** Null: nothing is prepared. */
  environments: { hosts: readonly AllowedHost[] } | null;
  /** Null: goals are refused. */
  goals: {
    agents: readonly AgentConfig[];
    mcp: readonly McpConfig[];
    hosts: readonly AllowedHost[];
    /** A sandbox can be given a way out. */
    runtime: boolean;
  } | null;
  /** Somebody measures when its steps are reached. */
  timed: boolean;
}

/** A prepared environment that a worker uses, until it tells `environmentDone` of its number. */
export interface LentEnvironment {
  number: number;
  folder: string;
  file: PreparedFile;
}
