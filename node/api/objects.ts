/**
 * The objects of the outside contract as JSON carries them: these fields are always there, more may follow. Absent
 * values are null. Types only, so that a client starts without loading a schema library.
 */
import type { Schedule } from '../../protocol/schedule.ts';
import type { GoalStart, LimitKinds, ResultBlob } from '../../protocol/session.ts';
import type {
  Artifact,
  FailureReason,
  Fault,
  RepositoryBundle,
  TaskSpec,
  TaskState,
} from '../../protocol/task.ts';

/** `mesh-hub init` and `status`. `root` is the hex root of the log at `size`. */
export interface MeshObject {
  mesh: string;
  name: string;
  epoch: number;
  founder: string;
  size: number;
  root: string;
  /** Nothing is given out: everything was stopped, or, where it is `draining`, what runs may finish. */
  paused: boolean;
  draining: boolean;
  nodes: { online: number; total: number };
  /** `used`: of any work, verifications of what was delivered too. */
  slots: { used: number; total: number };
  /** Of open tasks: those that no machine was given yet, and those that one executes now. What is executed is in neither. */
  queue: { queued: number; running: number };
  warnings: string[];
}

/** What `status` says besides the mesh's figures; lists are cut to what a person can look at. Times are Unix ms. */
export interface Overview {
  /** Members, and before them those that wait to be let in, with their code. `work`: whether it takes tasks, or why not. */
  machines: (Pick<NodeObject, 'id' | 'name' | 'state' | 'code' | 'slots'> & { work: string | null })[];
  /** Members that keep a copy of the log, without the founder. */
  replicas: ReplicaLine[];
  /** Queued tasks by what they wait for: kinds as in `task why`. */
  waits: Record<string, number>;
  /** Attempts under way. */
  tasks: { id: string; role: 'execute' | 'verify'; member: Party; phase: string; since: number }[];
  /** Newest first. */
  failures: { id: string; reason: string | null; detail: string | null; finishedAt: number | null }[];
  /** Delivered results that nobody has verified or applied. */
  proposals: { count: number; newest: string | null };
  /** What a person has to do, and what to type; null where it is done elsewhere. */
  needs: { what: string; command: string | null }[];
  /** What may be lost as things stand. */
  risks: string[];
}

/** A member that keeps a copy of the log. `lag`: entries it has not synced yet; null: it does not follow now. */
export interface ReplicaLine {
  id: string;
  name: string;
  lag: number | null;
  /** Lowest entry that it holds: above 0 while it fetches the entries before the snapshot it began at. Null where lag is. */
  from: number | null;
}

/**
 * What an answer is of that did not come from a founder at work: a replica's copy while the founder cannot be reached, or
 * the log of a founder that may not go on yet.
 */
export interface AsOf {
  size: number;
  root: string;
  /** Of the newest entry, by the founder's clock, Unix ms. */
  time: number;
  /** Entries that are known to exist and are not here; null: nothing is known of others. */
  behind: number | null;
  /** Why the founder does not answer, in words. */
  why: string;
}

/** The mesh as a log alone tells of it. */
export type LoggedMesh = Omit<MeshObject, 'nodes' | 'slots'> & {
  nodes: { online: number | null; total: number };
  slots: { used: number | null; total: number | null };
  asOf: AsOf;
};

/** `durability`: replicas that must have synced an entry before it is acknowledged, and how many follow now. */
export interface DurabilityObject {
  replicas: number;
  following: number;
}

export type StatusObject = MeshObject & Overview;

/** A member that the pause has not stopped yet, as far as is known: it stops by itself `within` so many ms, when its lease ends. */
export interface UnreachedObject {
  id: string;
  name: string;
  attempts: number;
  within: number;
}

/** What `pause` answers. */
export type PausedObject = StatusObject & { unreached: UnreachedObject[] };

/**
 * Attempts that the whole mesh may run: `ring` at any time, `elastic` while work waits; `set`: by the operator. `bound`: what
 * holds now. `idle`: free slots that could be given work. `held`: tasks wait although there are such.
 */
export interface CapacityObject {
  ring: number;
  elastic: number;
  set: boolean;
  bound: number;
  running: number;
  idle: number;
  held: boolean;
}

/** `mesh-hub policy default`: null: none. `older`: members online that run a release which does not keep it, and get no work. */
export interface PolicyDefaultObject {
  policy: string | null;
  older: string[];
}

/** `expiresAt` is Unix ms on the founder's clock. */
export interface InviteObject {
  token: string;
  expiresAt: number;
  uses: number;
  roles: string[];
  labels: Record<string, string>;
  /** When machines let in by it work; null: as their owners say. */
  policy: string | null;
}

/** What `join --no-start` says once this machine is a member. */
export interface EnrolledLine {
  event: 'enrolled';
  mesh: string;
  id: string;
  name: string;
  /** The name asked for, where another machine has it. */
  asked?: string;
}

export type NodeState = 'pending' | 'online' | 'offline' | 'draining' | 'paused' | 'revoked';

/** `node list|describe` and `mesh-node status`. `code` only while pending; `lag` in entries behind the founder. */
export interface NodeObject {
  id: string;
  name: string;
  owner: string | null;
  roles: string[];
  state: NodeState;
  code: string | null;
  slots: { used: number; total: number };
  models: string[];
  tools: Record<string, string>;
  labels: Record<string, string>;
  limits: LimitKinds | null;
  /** When it works, by its owner and the invite; null: not known. */
  policy: string | null;
  /** Whether it takes tasks now, and why (not), in words. */
  work: string | null;
  /** Why nothing is given to it until a person trusts it again. @default it is in no quarantine */
  quarantined?: string;
  lag: number | null;
}

/** `mesh-hub trust show`: who is believed, as the log tells it. */
export interface TrustObject {
  /** Whether results of members with a long valid record are verified by sample only. */
  sampling: boolean;
  /** Valid results in a row that make a member a trusted one. */
  trustedAfter: number;
  members: TrustLine[];
}

export interface TrustLine {
  id: string;
  name: string;
  founder: boolean;
  /** It may verify what new members do. */
  trusted: boolean;
  /** Valid results in a row. */
  valid: number;
  /** Results found invalid, ever. */
  invalid: number;
  /** How often its next result is verified, from 0.1 to 1. */
  verifies: number;
  /** Since when (Unix ms), for which task's sake, and why; null: it is in no quarantine. */
  quarantined: { since: number; task: string; why: string } | null;
}

/**
 * `mesh-node policy show|set|test`: when this machine works and what it takes, and how that is judged now. `owner`, `invite` and
 * `mesh` (its default for all machines): what each said, null: nothing; `policy`: all together. Of a test it is what would be,
 * were that the owner's.
 */
export interface PolicyObject {
  policy: string;
  from: string;
  owner: string | null;
  invite: string | null;
  mesh: string | null;
  holds: boolean;
  why: string;
  /** `mesh`: the mesh's default asks it, whatever the owner says. */
  conditions: { condition: string; holds: boolean; why: string; mesh: boolean }[];
  signals: { name: string; says: string }[];
  /** Until when the owner has paused it, Unix ms; null: he has not, or without an end. */
  paused: boolean;
  pausedUntil: number | null;
  /** How long what is suspended is kept. */
  evictMs: number;
}

/** A node as a log alone tells of it. */
export type LoggedNode = Omit<NodeObject, 'state' | 'slots' | 'models' | 'tools'> & {
  state: NodeState | null;
  slots: { used: number | null; total: number | null };
  models: string[] | null;
  tools: Record<string, string> | null;
};

/**
 * `mesh-node status`. `replica`: the copy of the log that this machine keeps; null: it keeps none. `environments`: what was prepared
 * for its tasks, in bytes of the disk; null: the folder cannot be read. `settings`: what its owner has set of the machine itself,
 * and how that is kept.
 */
export type OwnNodeObject = NodeObject & {
  replica: CopyObject | null;
  environments: { count: number; bytes: number; bytesMax: number } | null;
  settings: { name: string; says: string }[];
};

/** A replica's copy. `root` is null while there is none; `follows` is null while nobody can be followed. */
export interface CopyObject {
  size: number;
  root: string | null;
  /** Lowest entry in it: above 0 while it fetches the entries before the snapshot it began at, of which it has `fetched`. */
  from: number;
  fetched: number;
  follows: Party | null;
  /** Entries that are known to exist and are not here; null: nothing is known of others. */
  behind: number | null;
}

/** `mesh-node models list`. */
export interface ModelServerObject {
  url: string;
  /** Found on this machine by itself, or lent by its owner from elsewhere. */
  from: 'found' | 'lent';
  /** `Ollama` or `OpenAI`; null where it does not answer. */
  speaks: string | null;
  models: string[];
  /** Why it offers nothing now, in words; null: it answers. */
  fault: string | null;
}

/** A model that can be asked from this machine. */
export interface ModelObject {
  name: string;
  /** Whose machine reads the prompt. */
  node: Party;
  /** It is this machine. */
  own: boolean;
  /** The model server elsewhere on the LAN that this machine hands the prompt on to; null: none, or not told. */
  server: string | null;
  contextTokens: number | null;
  /** It calls tools. */
  tools: boolean | null;
  /** As measured there; null: not yet. */
  promptTokensPerSecond: number | null;
  generateTokensPerSecond: number | null;
}

/** `mesh-node endpoint`. */
export interface EndpointObject {
  on: boolean;
  /** Where it answers now; null: it does not. */
  url: string | null;
  /** As configured; 0: any free one. */
  port: number;
  /** What each request has to name; null: none is asked for. */
  token: string | null;
  /** Why it is on and does not answer, in words. */
  fault: string | null;
}

/** What is asked of the endpoint; what is left out stays. `token`: a new one, or none. */
export interface EndpointWish {
  on: boolean;
  port?: number | undefined;
  token?: boolean | undefined;
}

export interface Party {
  id: string;
  name: string | null;
}

/** The task as scripts see it. */
export interface TaskObject {
  id: string;
  kind: string;
  state: TaskState;
  reason: FailureReason | null;
  verified: boolean;
  confidence: number | null;
  executor: Party | null;
  verifier: Party | null;
  sameOwner: boolean | null;
  attempts: number;
  base: string | null;
  branch: string | null;
  commit: string | null;
  exitCode: number | null;
  receipt: string | null;
  submitter: unknown;
  correlation: string;
  submittedAt: number;
  finishedAt: number | null;
  /** The task that it repeats; null: none. Missing from a founder of an older release. */
  rerunOf?: string | null;
  /** What it waits to have answered (`task answer`); null: nothing. Missing from a founder of an older release. */
  question?: string | null;
}

/** What `task.get` and `watch` add: enough to fetch everything the task gave. Not in lists. */
export interface TaskDetail extends TaskObject {
  detail: string | null;
  spec: TaskSpec;
  bundle: ResultBlob | null;
  /** What gives the base to whoever lacks it: a snapshot of uncommitted files is nowhere else. */
  baseBundle: RepositoryBundle | null;
  log: ResultBlob | null;
  artifacts: Artifact[];
  checksChanged: string[];
  /** Checks that said both red and green of the same files. Missing from a founder of an older release. */
  flaky?: string[];
  /** Records of earlier work that its newest attempt was sent (`memory show`); null: no goal, or not known any more. Missing from an older founder. */
  remembered?: string[] | null;
  /** What its model asked, oldest first. Missing likewise. */
  questions?: { text: string; answer: { text: string } | null }[];
  /** Who took the result into a branch of theirs last, and when (Unix ms); null: nobody said so. Missing likewise. */
  applied?: { commit: string; by: unknown; at: number } | null;
  /** When and where it may run, as it was asked; null: at any time, anywhere. Missing from a founder of an older release. */
  schedule?: Schedule | null;
  /** Of an answer to a submission: an open task of the same submitter that says the same. @default there is none */
  twin?: string;
  /** What it begins with, of the task that it continues; null: the base. Missing from a founder of an older release. */
  continues?: GoalStart | null;
  /** What was done of the goal by an attempt that went no further (`task continue`); null: nothing. Missing likewise. */
  partial?: Omit<GoalStart, 'task'> | null;
  /** Why a delivered result may not be what it seems: what it rests on is the word of a machine in quarantine alone. */
  doubt?: string | null;
  /** What came of verifying it again, by itself, after whom it rested on came into quarantine; null: it was not. Missing likewise. */
  reverified?: ReverifiedObject | null;
  /** Machines that ran its command; null: nobody asked for replicas. Missing likewise. */
  replicas?: ReplicasObject | null;
}

export interface ReplicasObject {
  /** So many must come to the same, the executor among them. */
  wanted: number;
  agreed: number;
  others: (Party & { agrees: boolean; detail: string | null })[];
}

export interface ReverifiedObject {
  /** `unavailable`: nobody can say, and `detail` says why. */
  outcome: 'confirmed' | 'contradicted' | 'unavailable';
  /** Whose word it had rested on. */
  of: Party;
  by: Party | null;
  sameOwner: boolean | null;
  detail: string | null;
  /** Digest of the verification, and the blob that holds it. */
  verification: string | null;
  envelope: string | null;
  /** Unix ms by the log. */
  at: number;
}

/** What is remembered: a goal that ended, or a note. Fields that do not apply are null or empty. */
export interface MemoryObject {
  id: string;
  kind: 'task' | 'note';
  verified: boolean;
  submitter: unknown;
  repository: { id: string; name: string } | null;
  /** The goal, or the note. */
  text: string;
  /** How a goal ended. */
  state: string | null;
  reason: string | null;
  detail: string | null;
  files: string[];
  /** Checks that were red before the work, or at its end: the command, and what it printed in one line. */
  failures: { check: string | null; before: boolean; pattern: string }[];
  topic: string | null;
  /** What the model that worked on a goal left to be known. */
  note: string | null;
  /** Attempts that it was sent with. */
  used: number;
  /** Records that the goal itself was sent. */
  recalled: string[];
  /** Unix ms. */
  at: number;
}

export interface Page<T> {
  items: T[];
  next: string | null;
}

/** First line of stdout of `start --json` and of `join --json` once enrolled. */
export interface ReadyLine {
  event: 'ready';
  mesh: string;
  id: string;
  name: string;
  addresses: string[];
  /** The founder answers; false: it is tried again and again. */
  online: boolean;
  /** Whether this machine takes tasks now, and why (not), in words. */
  work?: string;
  /** The name it would have had, where that was taken. */
  asked?: string;
}

/** `join` without a token, while a person has to say yes. */
export interface PendingLine {
  event: 'pending';
  code: string;
  mesh: string | null;
  /** The mesh's name, as its founder says it. */
  name: string | null;
  founder: string | null;
  expiresAt: number | null;
}

/** `start` of a founder that may not go on yet: the error that every request but reads gets meanwhile. */
export interface WaitingLine {
  event: 'waiting';
  code: string;
  message: string;
  hint: string | null;
}

/** What was taken; money in millionths of the currency. */
export interface BudgetSum {
  tokens: number;
  seconds: number;
  money: number;
  calls: number;
  /** Of these calls, those whose server did not count: their tokens are estimated. */
  estimated: number;
}

interface BudgetPool {
  tokens: number | null;
  seconds: number | null;
  money: number | null;
}

/** What failures have in common, last seen first, and classes of tasks that wait for a person (`failures`). */
export interface FailuresObject {
  items: {
    /** 10 hex digits. */
    id: string;
    reason: FailureReason;
    fault: Fault;
    /** The program, or the check. */
    word: string;
    /** The detail without numbers, ids and paths. */
    text: string;
    count: number;
    /** Unix ms. */
    first: number;
    last: number;
    /** Newest last, as brains (models asked) and tasks (a few of them). */
    members: { id: string; name: string | null }[];
    brains: string[];
    tasks: string[];
  }[];
  next: null;
  frozen: {
    id: string;
    kind: string;
    /** Its name; null: the empty workspace. */
    repository: string | null;
    word: string;
    failures: number;
    at: number;
  }[];
}

/** Limits and what was taken (`budget show`). */
export interface BudgetObject {
  /** Null: no sum of money was ever named. */
  currency: string | null;
  /** Of UTC, such as `2026-03-01`, and when the next one begins (Unix ms). */
  day: string;
  until: number;
  limits: {
    scope: 'day' | 'session' | 'model' | 'member';
    name: string | null;
    limit: BudgetPool;
    /** Null for `session`, of which each task has its own. */
    spent: BudgetSum | null;
    /** Kept for attempts that run. */
    reserved: BudgetPool | null;
    left: BudgetPool | null;
    until: number | null;
  }[];
  /** Millionths of the currency for a million tokens. */
  prices: { model: string; in: number; out: number }[];
  today: {
    spent: BudgetSum;
    /** Attempts under a limit that were lost: what they took after their last word is not known, and in no sum. */
    lost: number;
    models: { name: string; spent: BudgetSum }[];
    members: { name: string; spent: BudgetSum }[];
  };
  /** Of tasks that have not ended and that the asker may see. */
  tasks: { task: string; spent: BudgetSum }[];
}
