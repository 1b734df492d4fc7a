import type { Actor, EventBody } from '../../ledger/lines/events.ts';
import type { MadeEntry } from '../../ledger/lines/line.ts';
import type { Selected, Selection } from '../../ledger/log/archive.ts';
import type { ErrorObject } from '../../protocol/errors.ts';
import type { Role } from '../../protocol/ids.ts';
import type { Schedule } from '../../protocol/schedule.ts';
import type {
  AttemptResult,
  AttemptRole,
  FounderMessage,
  Lease,
  MemberHello,
  MemberMessage,
  Place,
  ResultBlob,
} from '../../protocol/session.ts';
import type { Artifact, RepositoryBundle, TaskSpec, TaskState } from '../../protocol/task.ts';
import type { BatchItem } from './intake/batch.ts';

/** A task as it is sent. */
export interface Submission {
  spec: TaskSpec;
  bundle: RepositoryBundle | null;
  correlation: string | null;
  /** @default at any time, anywhere */
  schedule?: Schedule | undefined;
  /** Refused where the same submitter has the same task open already. @default false */
  once?: boolean | undefined;
  /** What is said where no member fits; `refuse`: refused where none ever can. @default it waits, and nothing is said */
  unmet?: 'refuse' | 'say' | undefined;
}

/**
 * The founder core: a state machine without IO in the manner of etcd/raft. `step(input, clock)` decides, applies
 * its own events at once, and returns effects; an effect with `after` is released by the driver when the entry of
 * that index is durable. A crash between is a crash before: nobody outside has seen it.
 */
export type Operation =
  | ({ op: 'task.submit' } & Submission)
  /** All of them or none. */
  | { op: 'task.submitMany'; items: BatchItem[]; correlation: string | null }
  /** Where it would be, were it sent now. */
  | { op: 'task.dryRun'; spec: TaskSpec; schedule?: Schedule | undefined }
  | { op: 'task.stop'; task: string }
  | { op: 'task.rerun'; task: string }
  | { op: 'task.answer'; task: string; text: string }
  | { op: 'task.continue'; task: string; text: string | null }
  | { op: 'task.applied'; task: string; commit: string }
  | { op: 'task.get'; task: string }
  /** `correlation`: only those sent with this id. @default any */
  | {
      op: 'task.list';
      states: TaskState[] | null;
      correlation?: string | null;
      cursor: string | null;
      limit: number;
    }
  | { op: 'task.why'; task: string }
  /** Which of these commits the mesh can hand out already, so that a submitter sends only the rest. */
  | { op: 'repository.known'; commits: string[] }
  /** `replace`: name or id of the member whose place is taken; roles, labels, owner and policy are then its own. */
  | { op: 'invite.create'; invite: EventBody<'invite.created'>; replace?: string }
  | {
      op: 'member.admit';
      peer: string;
      name: string;
      /** A person chose the name: taken, it is refused. Else the first free one like it will do. @default false */
      exact?: boolean;
      owner: string | null;
      via: { kind: 'invite'; secretHash: string } | { kind: 'approval'; code: string; roles: Role[] };
    }
  | { op: 'member.reject'; peer: string; name: string }
  /** `deadlineMs`: of one that is drained, after which what still runs there is taken away. @default it runs to its end */
  | { op: 'member.eligible'; member: string; eligible: boolean; deadlineMs?: number }
  | { op: 'member.rename'; member: string; name: string }
  /** `vouched`: it counts as one with a long valid record from here on. */
  | { op: 'member.trust'; member: string; vouched: boolean }
  | { op: 'trust.show' }
  | { op: 'trust.sampling'; on: boolean }
  | { op: 'member.revoke'; member: string; reason: string | null }
  | { op: 'member.leave'; peer: string }
  | { op: 'node.list' }
  | { op: 'node.get'; member: string }
  /** `drain`: what runs may finish. */
  | { op: 'mesh.pause'; drain?: boolean }
  | { op: 'mesh.resume' }
  | { op: 'mesh.durability'; replicas: number }
  | { op: 'durability' }
  /** Members that may still run what the pause stopped. */
  | { op: 'pause.unreached' }
  | { op: 'mesh.capacity'; ring?: number; elastic?: number }
  | { op: 'capacity' }
  /** Null: none. */
  | { op: 'mesh.policy'; policy: string | null }
  | { op: 'policy' }
  | { op: 'secret.set'; name: string }
  | { op: 'secret.remove'; name: string }
  | { op: 'secret.list' }
  | { op: 'status' }
  /** A question to a plugin, and a change that it decides on. */
  | { op: 'plugin.read' | 'plugin.write'; plugin: string; verb: string; body: unknown };

export type FounderInput =
  | { type: 'request'; request: number; by: Actor; operation: Operation }
  /** `address`: where the session comes from, for people. */
  | { type: 'connected'; peer: string; session: number; hello: MemberHello; address?: string }
  | { type: 'received'; peer: string; session: number; message: MemberMessage }
  | { type: 'disconnected'; peer: string; session: number }
  /** Everything a result names is on this disk, synced, and has the digests it said; or it could not be had. */
  | {
      type: 'collected';
      peer: string;
      lease: Lease;
      envelopeBlob: string | null;
      failure: CollectFailure | null;
    }
  /** Names of the secrets that have a value now. */
  | { type: 'secrets'; values: ReadonlyMap<string, string> }
  /** A newer roster was signed and stored. */
  | { type: 'roster'; version: number; blob: string }
  /** What a `recall` asked for, or why it could not be read. */
  | { type: 'recalled'; purpose: RecallPurpose; found: Recalled; error: ErrorObject | null }
  /** A snapshot of the log is on the disk, synced. */
  | { type: 'snapshotted'; snapshot: EventBody<'log.snapshot'> }
  /**
   * The log is synced to this index, with this root. `checkpoint`: the newest that members may have, which is older where
   * acknowledgements wait for replicas; null: none yet.
   */
  | { type: 'durable'; index: number; checkpoint: string | null; root: string }
  /**
   * Entries that each replica which follows the log now holds synced, where these listen, and of those that began at a
   * snapshot and still fetch the entries before it, from which entry on they hold the log.
   */
  | {
      type: 'replicas';
      held: ReadonlyMap<string, number>;
      places?: readonly Place[];
      from?: ReadonlyMap<string, number>;
    }
  /** Blobs that the log names and that are not on this disk. */
  | { type: 'lacking'; blobs: number }
  | { type: 'tick' };

/** Tasks that have left the state: one by its id, or those of a list. */
export type Wanted = { task: string } | Selection;
/** Without `looked` for one by its id. */
export type Recalled = Pick<Selected, 'tasks'> & Partial<Selected>;
/** What goes on when they are there. */
export type RecallPurpose =
  | { kind: 'request'; request: number; by: Actor; operation: Operation }
  | { kind: 'result'; peer: string; result: AttemptResult };

export interface CollectFailure {
  /** `gone`: the member vanished in mid-transfer. `bad`: it sent what it had not said. */
  kind: 'gone' | 'bad' | 'disk';
  detail: string;
}

export type FounderEffect =
  /**
   * The first of a step's effects, almost always one, never empty. The core has applied these very entries, each with its index,
   * epoch and time, and every replica must read the same.
   */
  | { type: 'append'; made: MadeEntry[] }
  | { type: 'send'; after: number; peer: string; session: number; message: FounderMessage }
  | { type: 'answer'; after: number; request: number; result: unknown; error: ErrorObject | null }
  /** Pull the blobs of a result from the member, verify, sync; then feed `collected`. At once: it tells nobody what was decided. */
  | {
      type: 'collect';
      peer: string;
      session: number;
      lease: Lease;
      role: AttemptRole;
      blobs: (ResultBlob | Artifact)[];
      /** Stored as a blob of its own, so that the receipt file can be made of it. */
      envelope: string | null;
    }
  /** Read these from the log, as it is when this is released; then feed `recalled`. */
  | { type: 'recall'; after: number; wanted: Wanted; purpose: RecallPurpose }
  /** Membership changed: sign and store a roster, drop connections of those no longer in it. */
  | { type: 'membership'; after: number; removed: string[] }
  /** `disconnect`: its connection goes too, for it is another machine's than the peer's. */
  | {
      type: 'close';
      after: number;
      peer: string;
      session: number;
      code: string;
      message: string;
      disconnect?: boolean;
    };

/** What leaves when the entries up to `after` are durable. */
export type HeldEffect = Exclude<FounderEffect, { type: 'append' | 'collect' }>;
