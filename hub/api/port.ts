import type { Entry } from '../../ledger/lines/entry.ts';
import type { Actor } from '../../ledger/lines/events.ts';
import type { InviteObject, NodeObject, TaskDetail } from '../../node/api/objects.ts';
import type { BlobStore } from '../../node/blobs/types.ts';
import type { Role } from '../../protocol/ids.ts';
import type { Right } from '../core/rights.ts';
import type { Operation } from '../core/types.ts';

export type { Right } from '../core/rights.ts';

export interface InviteOptions {
  /** @default inviteMs, in ms from now on the founder's clock */
  lifetimeMs: number;
  /** @default 1 */
  uses: number;
  roles: Role[];
  labels: Record<string, string>;
  owner: string | null;
  /** When the machines work; null: as their owners say. */
  policy: string | null;
  /** The member whose place the machine takes; uses, roles, labels, owner and policy are then that one's. */
  replace: string | null;
}

export interface ApproveOptions {
  /** What both screens show, with or without its dashes. */
  code: string;
  /** @default the name the joiner asked for */
  name: string | null;
  owner: string | null;
  roles: Role[];
}

/** Where `ledger verify` is, and what it found. `SF_LOG_DAMAGED` names the place of any damage. */
export interface LedgerProgress {
  checked: number;
  size: number;
}
export interface LedgerReport {
  mesh: string;
  /** Lowest entry that was checked: above 0 where the log begins at a snapshot, and the rest is being fetched. */
  from: number;
  size: number;
  root: string;
  checkpoints: number;
  segments: number;
}

/** How far a handover is. `blobs`: so many files are left to copy; `held`: the mesh stands still; `fenced`: it is done here. */
export interface HandoverStep {
  step: 'blobs' | 'held' | 'fenced';
  left: number;
}
export interface HandoverReport {
  mesh: string;
  epoch: number;
  founder: { id: string; name: string };
  /** Entries of the log, the handover among them. */
  size: number;
  /** From the stop of dispatch to the last word here, ms. */
  heldMs: number;
  /** The new founder has said that it holds the handover. */
  taken: boolean;
}

/** What `/v1` needs of the founder's process. The daemon implements it; tests answer it in memory. */
export interface HubPort {
  /** One operation of the core; answers when what it rests on is durable. Throws `SuperfleetError`. */
  request(operation: Operation, by: Actor, correlation: string | null): Promise<unknown>;
  /** Whether this actor has the right. A local actor has them all; a peer by its membership's roles. */
  allowed(by: Actor, right: Right): boolean;
  /** Throws `SF_REFUSED`, with the roles that would do, where `allowed` says no. */
  need(by: Actor, right: Right): void;
  /** Whether this blob is of a result of a task that this peer sent. */
  ownsResult(peer: string, blob: string): boolean;
  blobs: BlobStore;
  /** Makes the secret and the token, which names the addresses this founder listens on. */
  invite(options: InviteOptions, by: Actor): Promise<InviteObject>;
  /** Requests waiting for a person, as nodes of state `pending` with their `code`. */
  pendingJoins(): Promise<NodeObject[]>;
  /** `SF_NOT_FOUND` for a code nobody shows. */
  approve(options: ApproveOptions, by: Actor): Promise<NodeObject>;
  reject(code: string, by: Actor): Promise<void>;
  /** Keeps the value in its file outside the data folder; only the name reaches the log. */
  secretSet(name: string, value: Uint8Array, by: Actor): Promise<void>;
  secretRemove(name: string, by: Actor): Promise<void>;
  /** The task's output as it came, secrets masked, controls not escaped. With `follow` it ends when the task does. */
  logs(task: string, options: { follow: boolean; signal: AbortSignal }): AsyncIterable<Uint8Array>;
  /** The receipt file: receipt, verification, certificates. `SF_CONFLICT` while the task has none. */
  receiptFile(task: string): Promise<Uint8Array>;
  /** The log's entries about this task, in order. */
  history(task: string): Promise<Entry[]>;
  ledger: {
    verify(progress: (at: LedgerProgress) => void, signal: AbortSignal): Promise<LedgerReport>;
    /** The same of what is durable, and where it finds damage the founder stops. */
    scrub(progress: (at: LedgerProgress) => void, signal: AbortSignal): Promise<LedgerReport>;
    /** Durable entries from this index on; with `follow` it waits for more until the signal. */
    tail(from: number, options: { follow: boolean; signal: AbortSignal }): AsyncIterable<Entry>;
    /** The log's bytes as they stand in its segments, checkpoint lines included. */
    export(signal: AbortSignal): AsyncIterable<Uint8Array>;
    /**
     * A proof file: of an entry, of the newest entry that names a task's receipt (`SF_CONFLICT` while there is none and the
     * task has not ended), or that the log grew out of its first `since` entries.
     */
    prove(of: { task: string } | { index: number } | { since: number }): Promise<Uint8Array>;
  };
  /** The task now and on each change; ends after the state is terminal. */
  watch(task: string, signal: AbortSignal): AsyncIterable<TaskDetail>;
  /** Hands the mesh over to this replica. What fails before the log says so leaves everything as it was. */
  handOver(
    node: string,
    progress: (step: HandoverStep) => void,
    signal: AbortSignal,
  ): Promise<HandoverReport>;
  /** Begins an orderly stop of the process; returns at once. */
  stop(): void;
}
