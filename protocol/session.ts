import { z } from 'zod';
import {
  blobId,
  commitId,
  correlationId,
  count,
  labels,
  memberName,
  meshId,
  nonce,
  peerId,
  sha256Hex,
  taskId,
} from './ids.ts';
import {
  answerCharactersMax,
  artifactsMax,
  entryLineBytesMax,
  envelopeBytesMax,
  questionCharactersMax,
  questionsMax,
  secretBytesMax,
  toolsMax,
} from './limits.ts';
import { remembered, rememberedMax } from './memory.ts';
import { policyText } from './policy-schema.ts';
import { artifact, failureReason, fault, repositoryBundle, taskSpec } from './task.ts';
import { allowance, usage } from './usage.ts';

/**
 * `/superfleet/session/1.0.0`: one long-lived bidirectional stream between a member (who opens it) and the
 * founder. A frame is a JSON array of messages. Peers of the same major version understand each other one minor
 * version apart; fields a minor version adds are optional, and unknown ones are dropped, not refused.
 */
export const SESSION_PROTOCOL = '/superfleet/session/1.0.0';
export const SESSION_VERSION = { major: 1, minor: 2 } as const;

/** Feature of a hello: the member takes assignments whose task names a model or tools. */
export const REQUIREMENTS_FEATURE = 'requirements';
/** The same: it takes tasks of kind `code`, to pursue their goals or to verify what came of it. */
export const GOALS_FEATURE = 'goals';
/** The same: it is told which members lend models, and may pursue a goal with one of theirs. */
export const MODELS_FEATURE = 'models';
/** The same: it can begin a goal with what an earlier task did of it. */
export const CONTINUES_FEATURE = 'continues';
/** The same: it gives a goal's model what the mesh remembers. */
export const MEMORY_FEATURE = 'memory';
/** The same: it keeps the mesh's default policy besides its own, and hears of another one. */
export const POLICY_FEATURE = 'policy';

/** The same: it verifies by running the task's command itself, and tells whether it makes the same. */
export const REPLICAS_FEATURE = 'replicas';

/** Among the brains of a member's capacity: its owner lets goals ask a cloud from there. */
export const CLOUD_BRAIN = 'cloud';

const version = z.object({ major: count, minor: count });

/** Fence of an attempt: exactly these three name a lease; a result that differs in any is late. */
const lease = { task: taskId, attempt: count.min(1), epoch: count.min(1) };
const leaseObject = z.object(lease);
export type Lease = z.infer<typeof leaseObject>;

export const attemptRole = z.enum(['execute', 'verify']);
export type AttemptRole = z.infer<typeof attemptRole>;

/** Which mechanism holds each limit on this machine; a task may require it, a person can read it. */
export const limitKinds = z.object({
  memory: z.enum(['cgroup', 'watched', 'none']),
  processes: z.enum(['cgroup', 'nproc', 'none']),
  disk: z.enum(['watched', 'none']),
});
export type LimitKinds = z.infer<typeof limitKinds>;

const address = z.string().max(256);
const lentModelName = z.string().min(1).max(128);
const perSecond = z.number().nonnegative().nullable();

/** A model that members may ask of this one, and how fast it was here; null: not measured yet. */
const lentModel = z.object({
  name: lentModelName,
  promptTokensPerSecond: perSecond,
  generateTokensPerSecond: perSecond,
});

/** What a member offers, measured on it. */
export const capacity = z.object({
  slots: count.max(1024),
  /** `bubblewrap` when tasks can run; null: no working sandbox, so no tasks (design §12). */
  sandbox: z.enum(['bubblewrap']).nullable(),
  limits: limitKinds,
  memoryBytes: count,
  cpus: count,
  diskFreeBytes: count,
  models: z.array(z.string().max(128)).max(64),
  /** What works on goals here: kinds of model servers, agents by name. @default not said */
  brains: z.array(z.string().max(32)).max(32).optional(),
  /** Tool name → version as the tool printed it. */
  tools: z
    .record(z.string().max(64), z.string().max(128))
    .refine((all) => Object.keys(all).length <= toolsMax, `at most ${toolsMax} tools`),
  labels: labels,
  /** The owner has paused this machine, or its policy does not hold now (design §7). */
  ownerPaused: z.boolean(),
  /** The policy in force, the mesh's and the owner's together. @default not said */
  policy: z.string().max(1024).optional(),
  /** What of the policy keeps it from working now, to be read after its name. @default nothing does */
  bar: z.string().max(256).optional(),
  /** What its owner accepts, where that is not everything: kinds of tasks, names of who sent them. @default everything */
  accepts: z
    .object({
      kinds: z.array(z.string().max(32)).max(16).optional(),
      submitters: z.array(z.string().max(64)).max(64).optional(),
    })
    .optional(),
  /** When its policy ceases to hold by the clock, Unix ms by its own: what takes longer is not begun. @default not said */
  worksUntil: count.optional(),
  /** Models that members may ask of it over `/superfleet/infer`, and where it listens. @default it lends none */
  lends: z.object({ addresses: z.array(address).max(16), models: z.array(lentModel).max(64) }).optional(),
});
export type Capacity = z.infer<typeof capacity>;

// ── either way ──────────────────────────────────────────────────────────────────────────────────────────────
const grant = z.object({ type: z.literal('grant'), bytes: count.min(1) });
const goodbye = z.object({
  type: z.literal('goodbye'),
  code: z.string().max(64),
  message: z.string().max(1024),
});

/**
 * Which process speaks, so that two machines with one identity (a cloned disk) are told from one that restarted. None of
 * it lies in the data folder, so no copy of that has it.
 */
export const instance = z.object({
  /** 128 random bits of this process. */
  process: nonce,
  /** Digest of the running system and the data folder on it: one process at a time can hold that folder's lock. */
  place: sha256Hex,
  /** The host's name, for people. */
  host: z.string().max(64),
});
export type Instance = z.infer<typeof instance>;

// ── member → founder ────────────────────────────────────────────────────────────────────────────────────────
const memberHello = z.object({
  type: z.literal('hello'),
  version,
  features: z.array(z.string().max(64)).max(64),
  mesh: meshId,
  capacity,
  /** Attempts that run on this member now. */
  held: z.array(leaseObject).max(1024),
  /** Attempts whose results wait here to be accepted. */
  ready: z.array(leaseObject).max(1024),
  /** Newest checkpoint this member ever saw, as text (promises 2 and 5). */
  checkpoint: z.string().max(4096).nullable(),
  rosterVersion: count,
  /** Since 1.1: the name this machine knows itself by. */
  name: memberName.optional(),
  /** Since 1.1. */
  instance: instance.optional(),
  /** Since 1.1: its wall clock, Unix ms; only ever shown. */
  time: count.optional(),
});

/** A blob a result names: the founder pulls it, checks both digests and syncs it before it says `executed`. */
export const resultBlob = z.object({ blob: blobId, bytes: count, sha256: sha256Hex });
export type ResultBlob = z.infer<typeof resultBlob>;

/** Models that let an attempt, or a task, down and are told of; the newest. */
export const failedModelsMax = 16;

export const attemptResult = z.object({
  ...lease,
  role: attemptRole,
  correlation: correlationId,
  outcome: z.enum(['succeeded', 'failed']),
  /** Set when outcome is failed. */
  reason: failureReason.nullable(),
  fault: fault.nullable(),
  /** One to three sentences for a person: what happened, where, what to do. */
  detail: z.string().max(2048).nullable(),
  exitCode: z.int().nullable(),
  commit: commitId.nullable(),
  bundle: resultBlob.nullable(),
  log: resultBlob.nullable(),
  artifacts: z.array(artifact).max(artifactsMax),
  /** Signed statement (`encodeSigned`): a receipt from an executor, a verification from a verifier. Null only when a
   * fault of the machine kept the attempt from running at all. */
  envelope: z.string().max(envelopeBytesMax).nullable(),
  /** What models were asked for it. @default none was, or it is not said */
  usage: usage.optional(),
  /** Models that refused to answer, went away or broke, where that ended the attempt. @default that was not so, or it is not said */
  failedModels: z.array(z.string().max(128)).max(failedModelsMax).optional(),
});
export type AttemptResult = z.infer<typeof attemptResult>;

export const memberMessage = z.discriminatedUnion('type', [
  memberHello,
  /** `time` since 1.1: the member's wall clock, Unix ms; only ever shown. */
  z.object({ type: z.literal('heartbeat'), sequence: count, time: count.optional() }),
  z.object({ type: z.literal('capacity'), capacity }),
  z.object({ type: z.literal('started'), ...lease, correlation: correlationId }),
  z.object({
    type: z.literal('progress'),
    ...lease,
    correlation: correlationId,
    phase: z.enum(['fetch', 'prepare', 'run', 'check', 'converge']),
    logBytes: count,
    /** Its machine's owner is there: nothing of it runs until the next progress without this word. @default false */
    suspended: z.boolean().optional(),
    /** What models were asked for it so far. @default as it was */
    usage: usage.optional(),
  }),
  z.object({ type: z.literal('result'), result: attemptResult }),
  /** The attempt is gone and will give no result: owner's stop, refused, lease ran out, told to. */
  z.object({
    type: z.literal('stopped'),
    ...lease,
    correlation: correlationId,
    why: z.enum(['cancelled', 'paused', 'owner', 'lease', 'refused', 'shutdown', 'unknown']),
    detail: z.string().max(2048).nullable(),
  }),
  /** The owner takes this machine out of the mesh; answered by goodbye once that is in the log. */
  z.object({ type: z.literal('leave') }),
  grant,
  goodbye,
]);
export type MemberMessage = z.infer<typeof memberMessage>;
export type MemberHello = z.infer<typeof memberHello>;

// ── founder → member ────────────────────────────────────────────────────────────────────────────────────────
/** A machine, and the multiaddrs at which it says it listens. */
export const place = z.object({ peer: peerId, addresses: z.array(address).max(16) });
export type Place = z.infer<typeof place>;

/** A member that lends models, and their names. */
export const lender = z.object({
  peer: peerId,
  name: memberName,
  addresses: z.array(address).max(16),
  models: z.array(lentModelName).max(64),
});
export type Lender = z.infer<typeof lender>;
/** Lenders that members are told of, and what all of them together may take as JSON: half a frame. */
export const lendersMax = 64;
export const lendersBytesMax = 256 * 1024;

const welcome = z.object({
  type: z.literal('welcome'),
  version,
  features: z.array(z.string().max(64)).max(64),
  mesh: meshId,
  epoch: count.min(1),
  heartbeatMs: count.min(1),
  leaseMs: count.min(1),
  paused: z.boolean(),
  /** Which of the attempts in the hello go on; every other one is stopped or forgotten by the member. */
  resume: z.array(leaseObject).max(1024),
  checkpoint: z.string().max(4096).nullable(),
  /** The mesh's default policy; null: it has none. @default not said: what was heard last holds on */
  policy: policyText.nullable().optional(),
});

/** The part of a goal that a task did before its model said that it goes no further: unverified, as its executor signed it. */
export const goalStart = z.object({
  task: taskId,
  commit: commitId,
  bundle: resultBlob,
  /** What is left to do, in the words of the model. */
  left: z.string().max(questionCharactersMax),
});
export type GoalStart = z.infer<typeof goalStart>;

const assignment = z.object({
  ...lease,
  role: attemptRole,
  correlation: correlationId,
  spec: taskSpec,
  /** Bundles that lead to `spec.repository.base`, oldest first; a member skips those whose commit it holds. */
  bundles: z.array(repositoryBundle).max(512),
  /** 128 bits of the founder's, bound by the receipt or verification. */
  nonce,
  /** Secret name → value; only for the executor; memory only, never written down. */
  secrets: z.record(z.string(), z.string().max(secretBytesMax)),
  /** Differs for whoever sent the task, and says nothing of him: what his tasks leave behind is not for others'. @default not said */
  submitter: sha256Hex.optional(),
  /** The name of whoever sent the task, for members whose owners accept tasks by it, and no others. @default not said */
  sender: z.string().max(64).optional(),
  /** What models asked about the task and persons answered, oldest first; only for the executor. @default nothing */
  answers: z
    .array(
      z.object({
        question: z.string().max(questionCharactersMax),
        answer: z.string().max(answerCharactersMax),
      }),
    )
    .max(questionsMax)
    .optional(),
  /** What an earlier task did of the goal, for the executor to begin with; rests on the same base. @default nothing */
  start: goalStart.optional(),
  /** Models that rejected the task; others are asked first. @default none */
  rejectedBy: z.array(z.string().max(128)).max(questionsMax).optional(),
  /** Models that let an earlier attempt down; others are asked first. @default none */
  failedModels: z.array(z.string().max(128)).max(failedModelsMax).optional(),
  /** What earlier work of the same submitter taught, the best first; only for the executor of a goal. @default nothing */
  remembered: z.array(remembered).max(rememberedMax).optional(),
  /** What models may be asked for it; only for the executor. @default no bound but the task's own, and no cloud */
  allowance: allowance.optional(),
  /** For a verifier: the receipt to bind and the result to check. */
  verify: z
    .object({
      attempt: count.min(1),
      executor: peerId,
      receipt: sha256Hex,
      commit: commitId.nullable(),
      bundle: resultBlob.nullable(),
      /**
       * It runs the task's command itself, with its secrets, before the checks, and passes only what comes to the same: the same tree, and
       * artifacts with the same digest (`artifactsDigest`); where the task can give neither, a log with the same digest. @default it runs
       * the checks only
       */
      replica: z.object({ artifacts: sha256Hex, log: sha256Hex.nullable() }).optional(),
    })
    .nullable(),
});
export type Assignment = z.infer<typeof assignment>;

export const founderMessage = z.discriminatedUnion('type', [
  welcome,
  /** Answer to a heartbeat: renews the lease on the member's side. */
  z.object({ type: z.literal('beat'), sequence: count, checkpoint: z.string().max(4096).nullable() }),
  /** Since 1.1: answer with a heartbeat now. */
  z.object({ type: z.literal('call') }),
  z.object({ type: z.literal('assign'), assignment }),
  z.object({
    type: z.literal('cancel'),
    ...lease,
    correlation: correlationId,
    why: z.enum(['cancelled', 'paused', 'revoked', 'superseded']),
  }),
  /** The result is settled: the member may delete what it kept. `accepted` false: kept as evidence only. */
  z.object({
    type: z.literal('settled'),
    ...lease,
    correlation: correlationId,
    accepted: z.boolean(),
    why: z.string().max(1024).nullable(),
  }),
  z.object({ type: z.literal('pause') }),
  z.object({ type: z.literal('resume') }),
  /** A newer signed roster can be fetched as a blob. */
  z.object({ type: z.literal('roster'), version: count, blob: blobId }),
  z.object({ type: z.literal('renamed'), name: memberName }),
  /** The mesh's default policy is another one, null: it has none; for those that say `POLICY_FEATURE`. */
  z.object({ type: z.literal('policy'), policy: policyText.nullable() }),
  /** Since 1.2: replicas that follow the log and where they listen, for the day on which the founder is lost. */
  z.object({ type: z.literal('replicas'), replicas: z.array(place).max(16) }),
  /** All members that lend models now, for those that say `MODELS_FEATURE`; sent when that changes. */
  z.object({ type: z.literal('models'), lenders: z.array(lender).max(lendersMax) }),
  /** Since 1.2: the mesh was handed over. The lines prove it; `addresses` are the new founder's. */
  z.object({
    type: z.literal('handover'),
    handovers: z.array(z.string().max(entryLineBytesMax)).max(64),
    addresses: z.array(address).max(16),
  }),
  grant,
  goodbye,
]);
export type FounderMessage = z.infer<typeof founderMessage>;
export type Welcome = z.infer<typeof welcome>;

/** Messages that never wait behind others: they may use the reserve of the credit (`sessionReserveBytes`). */
export const URGENT: ReadonlySet<(MemberMessage | FounderMessage)['type']> = new Set([
  'hello',
  'welcome',
  'heartbeat',
  'beat',
  'call',
  'cancel',
  'pause',
  'resume',
  'stopped',
  'leave',
  'handover',
  'grant',
  'goodbye',
]);

export const leaseKey = (of: Lease): string => `${of.task}.${of.attempt}.${of.epoch}`;
