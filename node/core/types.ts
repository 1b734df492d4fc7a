import type { RandomBytes } from '../../protocol/ids.ts';
import type {
  Assignment,
  AttemptResult,
  AttemptRole,
  Capacity,
  FounderMessage,
  Instance,
  Lease,
  Lender,
  MemberMessage,
  Place,
} from '../../protocol/session.ts';
import type { Usage } from '../../protocol/usage.ts';

/**
 * The member core: a state machine without IO. `step(input, clock)` returns effects; its driver performs them.
 * Nothing in it reads a clock, draws a number or waits.
 */
export interface Clock {
  /** Monotonic ms: every lease and grace is measured by it (promise 11). */
  now: number;
  /** Wall clock, Unix ms: only ever shown or logged. */
  time: number;
  random: RandomBytes;
}

export type MemberInput =
  /** A session stream is open; the core answers with a hello. `session` numbers rise. */
  | { type: 'connected'; session: number }
  | { type: 'disconnected'; session: number }
  | { type: 'received'; session: number; message: FounderMessage }
  /** From the executor. */
  | { type: 'started'; lease: Lease }
  | {
      type: 'progress';
      lease: Lease;
      phase: 'fetch' | 'prepare' | 'run' | 'check' | 'converge';
      logBytes: number;
      /** What models were asked so far, where it has changed. */
      usage?: Usage;
    }
  /** The attempt has ended by itself; its result is already on this member's disk. */
  | { type: 'finished'; result: AttemptResult }
  /** An attempt told to stop is gone, its processes included. */
  | { type: 'gone'; lease: Lease }
  /** What this machine offers has changed. */
  | { type: 'capacity'; capacity: Capacity }
  /** The owner's word (promise 15): pause stops all attempts now. */
  | { type: 'owner'; act: 'pause' | 'resume' | 'shutdown' }
  /**
   * The owner's policy: what bars work now, as the founder is told; null: nothing does. `brief`: it may be over soon, so
   * what runs is suspended, and ended only after a grace. @default everything stops at once
   */
  | { type: 'policy'; bar: string | null; brief?: boolean }
  /** A roster of this version was fetched, verified and stored. */
  | { type: 'roster'; version: number }
  /** The mesh is in this epoch: a founder of an earlier one is not obeyed any more (promise 8). */
  | { type: 'epoch'; epoch: number }
  /** A replica's copy ends with this checkpoint, synced: this machine has seen it, and the copy keeps it. */
  | { type: 'holds'; checkpoint: string }
  | { type: 'tick' };

/** Why an attempt is told to stop. */
export type StopReason =
  | 'cancelled'
  | 'paused'
  | 'revoked'
  | 'owner'
  | 'policy'
  | 'lease'
  | 'superseded'
  | 'shutdown';

export type MemberEffect =
  | { type: 'send'; session: number; message: MemberMessage }
  /** Fetch input, run in the sandbox, sign, keep the result on disk, then feed `started` and `finished`. */
  | { type: 'start'; assignment: Assignment }
  /** Kill it now; feed `gone` when nothing of it is left. */
  | { type: 'stop'; lease: Lease; why: StopReason }
  /** Take the processor from all that runs, at once; what is begun meanwhile waits until `resume`. */
  | { type: 'suspend' }
  | { type: 'resume' }
  /** The founder has settled the result: what was kept of it may be deleted. */
  | { type: 'forget'; lease: Lease }
  | { type: 'fetchRoster'; version: number; blob: string }
  /** The newest checkpoint this member saw: keep it on disk, it is given back as `MemberRestored.checkpoint`. */
  | { type: 'keepCheckpoint'; checkpoint: string }
  /** The founder has signed two roots for one size: these checkpoints are proof, and nothing more is taken from it. */
  | { type: 'conflict'; checkpoints: [string, string] }
  /** The mesh knows this machine by another name than it said. */
  | { type: 'renamed'; name: string }
  /** The mesh was handed over, as its founder of until now says: to be proved, and the new one to be dialled. */
  | { type: 'handedOver'; handovers: string[]; addresses: string[] }
  /** Replicas of the mesh, and where they listen. */
  | { type: 'replicas'; replicas: Place[] }
  /** The mesh was paused, or is no longer: nothing is done for others meanwhile. Said once for each change. */
  | { type: 'meshPaused'; paused: boolean }
  /** The mesh's default policy, null: none; said with each welcome of a founder that knows of it, and when it changes. */
  | { type: 'meshPolicy'; policy: string | null }
  /** All members that lend models now, as the founder says. */
  | { type: 'lenders'; lenders: Lender[] }
  /**
   * Close this session (it was answered by a newer one, or by goodbye). `silent`: the founder was not heard for so long that
   * its connection is to go with it.
   */
  | { type: 'close'; session: number; silent?: true }
  /** The founder refused this member for good: say so and stop trying (revoked, other major version). */
  | { type: 'refused'; code: string; message: string };

/** What a restarted member brings back from its disk: results not yet settled. */
export interface MemberRestored {
  mesh: string;
  capacity: Capacity;
  ready: AttemptResult[];
  ownerPaused: boolean;
  /** What the owner's policy bars work by. @default null: nothing */
  bar?: string | null;
  /** How long what is suspended is kept before it is ended, ms; 0: it is ended at once. @default `evictMs` */
  evictMs?: number;
  checkpoint: string | null;
  /** Of the newest roster on disk; 0: none. */
  rosterVersion: number;
  /** Of the newest handover it was shown. @default 1 */
  epoch?: number;
  /** The name it knows itself by. @default it does not say */
  name?: string;
  /** What is done with a checkpoint that is shown, given the newest held. @default the larger size is kept */
  weigh?(held: string | null, shown: string): 'keep' | 'pass' | 'conflict';
  /** Which process this is. @default it does not say */
  instance?: Instance;
}

/** One attempt as the core sees it. */
export interface HeldAttempt {
  lease: Lease;
  role: AttemptRole;
  correlation: string;
  /** `ended`: it gave no result and the founder has not been told so yet. */
  phase: 'running' | 'stopping' | 'ready' | 'ended';
  started: boolean;
  /** Why it was told to stop; each stop is asked once. */
  why: StopReason | null;
  result: AttemptResult | null;
  /** What the executor said last. */
  doing: Pick<Extract<MemberInput, { type: 'progress' }>, 'phase' | 'logBytes'>;
  /** It can be suspended. */
  suspends: boolean;
  suspended: boolean;
}
