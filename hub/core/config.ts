import {
  elasticSlots,
  graceMs,
  heartbeatIdleMs,
  heartbeatMs,
  leaseMs,
  machineFaultsMax,
  openPerSubmitterMax,
  openTasksMax,
  ringSlots,
} from '../../protocol/limits.ts';

/** Times and bounds of a founder; all times monotonic ms. */
export interface FounderConfig {
  /** @default 5 s */
  heartbeatMs: number;
  /** @default 15 s, for members without an attempt */
  heartbeatIdleMs: number;
  /** @default 15 s without a word ends a lease */
  leaseMs: number;
  /** @default 2 s for a member whose connection closed to come back */
  graceMs: number;
  /** @default 36 attempts over the mesh */
  ringSlots: number;
  /** @default 64, while tasks wait that a free slot could take */
  elasticSlots: number;
  /** @default 100,000 */
  openTasksMax: number;
  /** Of one submitter. @default half of these */
  openPerSubmitterMax: number;
  /** @default 20 */
  machineFaultsMax: number;
  /** @default 1,024 late results whose envelopes are being stored at one time; past it they are settled and not kept */
  lateResultsMax: number;
}

const lateResultsMax = 1_024;

export const defaultConfig: FounderConfig = {
  heartbeatMs,
  heartbeatIdleMs,
  leaseMs,
  graceMs,
  ringSlots,
  elasticSlots,
  openTasksMax,
  openPerSubmitterMax,
  machineFaultsMax,
  lateResultsMax,
};

/** Tasks that only the ring keeps from a free slot wait so long before the mesh grows past it. */
export const elasticAfterMs = 2_000;
/** A founder core is ticked when something is due, and this often where nothing is: the net under its alarms. */
export const safetyTickMs = 2_000;
/** Alarms are rounded up to this. */
export const alarmGridMs = 25;
/** Who lends models is told so long after the fleet has changed. */
export const lendersSoonMs = 250;
/** A founder whose tick comes so late was asleep: its members could not be heard, and are given the time back. */
export const founderSleptMs = 1_500;
/** How long a result waits for a verifier that is a member but not to be had, before it goes out unverified. */
export const verifierWaitMs = 60_000;
/** What an attempt may take besides the times of its task: input fetched, workspace made, result collected. */
export const attemptSlackMs = 60 * 60_000;
/** Verifications of one result that may end without a word on it. */
export const verifierFaultsMax = 5;
/** First wait of a retry; doubled each time, drawn from its upper half. */
export const retryBaseMs = 1_000;
export const retryMaxMs = 60_000;
/** Where only members that failed before fit, a task waits this long for the first of them; doubled each time. */
export const sameMemberBaseMs = 250;
export const sameMemberMaxMs = 10_000;
/** Where another member fits but has no free slot, so long is it waited for. */
export const otherMemberWaitMs = 10_000;
/** A member that is asked whether it lives has so long to answer before another machine with its identity is believed. */
export const callMs = 4_000;
/** A second machine with a member's identity is warned of for so long after it was last refused. */
export const clashShownMs = 10 * 60_000;
/** A member's wall clock that differs from the founder's by more is told of. */
export const clockApartMs = 60_000;
/** What an attempt was told to stop and gave no word of holds its slot for at most so long. */
export const stoppingMax = 30_000;
/** Times that a founder asks for the blobs of one result, and the wait between. */
export const collectsMax = 5;
export const collectRetryMs = 1_000;
/** What a member's own words (headers of steps, what was left out) may add to the log of a task. */
export const logWordsBytesMax = 1024 * 1024;
/** Bytes of one assignment: it goes in one frame. */
export const assignmentBytesMax = 240 * 1024;
/** Bundles of one assignment (session message). */
export const bundlesMax = 512;
/** Repositories remembered of one member. */
export const repositoriesKeptMax = 16;
/** A machine whose owner stopped something is given nothing for so long. */
export const restMs = 1_000;
/** Retries of the mesh after faults of tasks that go at once; besides, so many a second, and this part of all first attempts. */
export const retriesAtOnce = 128;
export const retriesPerSecond = 1;
export const retryShare = 0.2;
/** A retry waits at most so long for others. */
export const retryHeldMaxMs = 5 * 60_000;
/** Faults of a machine in a row after which it rests; the first few are any machine's. */
export const restAfterFaults = 3;
/** It rests for this, doubled with every fault, at most for so long, and longer by up to this part of it, drawn. */
export const restBaseMs = 1_000;
export const restMaxMs = 2 * 60_000;
export const restJitter = 0.25;
/** Events of one append: a step that decides on more (many results given up on at once) appends in parts. */
export const appendEventsMax = 256;
/** Bytes of the lines of one append: of `batchBytesMax`, with room for a checkpoint. A batch of tasks is within it. */
export const appendBytesMax = 3 * 1024 * 1024;
