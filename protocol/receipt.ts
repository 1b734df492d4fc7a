import { z } from 'zod';
import { parseDocument } from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { type Fits, fitsOf } from './fits.ts';
import { commitId, count, meshId, nonce, peerId, taskId } from './ids.ts';
import { artifactsMax, questionCharactersMax } from './limits.ts';
import { lesson } from './memory.ts';
import { leaseKey, limitKinds } from './session.ts';
import {
  gitCommitDigest,
  STATEMENT_TYPE,
  sha256Digest,
  statementBytesMax,
  timestamp,
  unixMs,
} from './statement.ts';
import { type CodeSpec, type CommandSpec, codeSpec, commandSpec, failureReason } from './task.ts';

/**
 * A receipt: what an executor signs about one attempt, as an in-toto Statement v1 with SLSA provenance v1.
 * `buildReceipt` and `parseReceipt` are inverse to each other; the receipt's digest is that of the built bytes.
 */
export const PROVENANCE_TYPE = 'https://slsa.dev/provenance/v1';
export const BUILD_TYPE = 'superfleet:build:task:v1';

/** The part of a task that decides what is run: scheduling (labels, `on`, retries) is not the executor's to sign. */
const scheduling = {
  labels: true,
  on: true,
  retries: true,
  requireVerified: true,
  repository: true,
} as const;
const commandRun = commandSpec.omit(scheduling);
const codeRun = codeSpec.omit(scheduling);
const RUN_KEYS = { command: Object.keys(commandRun.shape), code: Object.keys(codeRun.shape) };
type Scheduling = Exclude<keyof typeof scheduling, 'repository'>;
export type RunSpec = Omit<CommandSpec, Scheduling> | Omit<CodeSpec, Scheduling>;

/** A file by its digest. */
export interface FileDigest {
  bytes: number;
  sha256: string;
}

/** Ways in which a model ends its work undone. */
export const WORK_SIGNALS = ['clarification_needed', 'partial_completion', 'task_rejection'] as const;

/** What a model did for a goal. Counts are null where its server does not count; changes are those git found, not those it told of. */
export const workDone = z.object({
  brain: z.string().max(64),
  model: z.string().max(128),
  turns: count,
  calls: count,
  promptTokens: count.nullable(),
  generatedTokens: count.nullable(),
  /** Times a red check was shown to it. */
  heals: count,
  /** It said that it is not sure. */
  lowConfidence: z.boolean(),
  /** Files that differ from the base. */
  files: count,
  /** How it said that it cannot go on. @default it did not */
  signal: z.object({ kind: z.enum(WORK_SIGNALS), text: z.string().max(questionCharactersMax) }).optional(),
  /** What later goals may be told of it. @default nothing */
  lesson: lesson.optional(),
  /** Records of earlier work that the model was given. @default none */
  remembered: count.optional(),
});
export type WorkDone = z.infer<typeof workDone>;

/** Everything a receipt says. */
export interface Receipt {
  mesh: string;
  task: string;
  attempt: number;
  epoch: number;
  /** The founder's, from the assignment: a receipt cannot be made before the lease. */
  nonce: string;
  /** Peer id of the member that ran it and signs. */
  executor: string;
  /** A whole TaskSpec will do; what scheduling alone needs is left out. */
  spec: RunSpec;
  sandbox: 'bubblewrap';
  limits: z.infer<typeof limitKinds>;
  /** Unix ms on the executor's clock; nothing rests on them, and a clock set back may make the second the smaller. */
  startedAt: number;
  finishedAt: number;
  outcome: 'succeeded' | 'failed';
  /** Null exactly when the outcome is succeeded. */
  reason: z.infer<typeof failureReason> | null;
  /** Of the task's command; null where a signal ended it, it never ran, or the task has none. */
  exitCode: number | null;
  /** Null where no model was asked. */
  work: WorkDone | null;
  /** One per check line that was run, in the task's order: `exitCodes[i]` belongs to `spec.checks[i]`. */
  checks: { line: string; exitCode: number | null }[];
  /** Check files that the result changes: such a result stays a proposal. */
  checksChanged: string[];
  /** Places in `spec.checks` of those that said both red and green of the same files: they prove nothing. @default none */
  checksFlaky?: number[];
  commit: string | null;
  bundle: FileDigest | null;
  /** Null: nothing was printed. */
  log: FileDigest | null;
  artifacts: (FileDigest & { path: string })[];
}

const exitCode = z.int().nullable();
const bytesAnnotation = z.object({ bytes: count });
const file = z.object({ name: z.string(), digest: sha256Digest, annotations: bytesAnnotation });
const commitSubject = z.object({ name: z.string(), digest: gitCommitDigest });

/** Where the work began. */
const input = {
  repository: z.strictObject({ id: z.string(), name: z.string(), ref: z.string() }).nullable(),
  base: commitId.nullable(),
};
const schema = z.object({
  _type: z.literal(STATEMENT_TYPE),
  subject: z
    .array(z.union([commitSubject, file]))
    .min(1)
    .max(artifactsMax + 2),
  predicateType: z.literal(PROVENANCE_TYPE),
  predicate: z.object({
    buildDefinition: z.object({
      buildType: z.literal(BUILD_TYPE),
      // SLSA: a consumer must refuse parameters it does not know.
      externalParameters: z.discriminatedUnion('kind', [
        z.strictObject({ task: taskId, ...commandRun.shape, ...input }),
        z.strictObject({ task: taskId, ...codeRun.shape, ...input }),
      ]),
      internalParameters: z.object({
        mesh: meshId,
        attempt: count.min(1),
        epoch: count.min(1),
        nonce,
        sandbox: z.literal('bubblewrap'),
        limitKinds,
      }),
      resolvedDependencies: z.array(z.object({ uri: z.string().max(256), digest: gitCommitDigest })).max(1),
    }),
    runDetails: z.object({
      builder: z.object({ id: z.string().max(128) }),
      metadata: z.object({ invocationId: z.string().max(64), startedOn: unixMs, finishedOn: unixMs }),
      byproducts: z.tuple([
        z.object({
          name: z.literal('result'),
          annotations: z.object({
            outcome: z.enum(['succeeded', 'failed']),
            reason: failureReason.nullable(),
            exitCode,
            work: workDone.optional(),
            checkExitCodes: z.array(exitCode).max(64),
            checksChanged: z.array(z.string().max(512)).max(64),
            checksFlaky: z.array(count.max(63)).min(1).max(64).optional(),
          }),
        }),
        file,
      ]),
    }),
  }),
});

/** URI form of a member: `superfleet:peer:12D3KooW…`. */
export const peerUri = (peer: string): string => `superfleet:peer:${peer}`;
const NOTHING: FileDigest = {
  bytes: 0,
  sha256: 'e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855',
};
const ARTIFACT = 'artifacts/';

/** The statement's bytes. `SF_FULL` past `statementBytesMax`, `SF_INTERNAL` for facts that contradict each other. */
export function buildReceipt(facts: Receipt): Uint8Array {
  const contradiction = contradictionIn(facts);
  if (contradiction !== null)
    throw new SuperfleetError('SF_INTERNAL', `a receipt cannot say: ${contradiction}`);
  return Buffer.from(receiptText(facts));
}

function receiptText(facts: Receipt): string {
  const { repository } = facts.spec;
  const named = (name: string, of: FileDigest): unknown => ({
    name,
    digest: { sha256: of.sha256 },
    annotations: { bytes: of.bytes },
  });
  const subject = [
    ...(facts.commit === null ? [] : [{ name: `mesh/${facts.task}`, digest: { gitCommit: facts.commit } }]),
    ...(facts.bundle === null ? [] : [named('bundle', facts.bundle)]),
    ...facts.artifacts.map((artifact) => named(`${ARTIFACT}${artifact.path}`, artifact)),
  ];
  const log = named('log', facts.log ?? NOTHING);
  const statement = {
    _type: STATEMENT_TYPE,
    // in-toto wants at least one: an attempt that gave nothing else gave its log.
    subject: subject.length > 0 ? subject : [log],
    predicateType: PROVENANCE_TYPE,
    predicate: {
      buildDefinition: {
        buildType: BUILD_TYPE,
        externalParameters: {
          task: facts.task,
          ...runPart(facts.spec),
          repository:
            repository === null ? null : { id: repository.id, name: repository.name, ref: repository.ref },
          base: repository?.base ?? null,
        },
        internalParameters: {
          mesh: facts.mesh,
          attempt: facts.attempt,
          epoch: facts.epoch,
          nonce: facts.nonce,
          sandbox: facts.sandbox,
          limitKinds: facts.limits,
        },
        resolvedDependencies:
          repository === null
            ? []
            : [{ uri: repositoryUri(repository.id), digest: { gitCommit: repository.base } }],
      },
      runDetails: {
        builder: { id: peerUri(facts.executor) },
        metadata: {
          invocationId: leaseKey(facts),
          startedOn: timestamp(facts.startedAt),
          finishedOn: timestamp(facts.finishedAt),
        },
        byproducts: [
          {
            name: 'result',
            annotations: {
              outcome: facts.outcome,
              reason: facts.reason,
              exitCode: facts.exitCode,
              ...(facts.work === null ? {} : { work: facts.work }),
              checkExitCodes: facts.checks.map((check) => check.exitCode),
              checksChanged: facts.checksChanged,
              ...(facts.checksFlaky === undefined ? {} : { checksFlaky: facts.checksFlaky }),
            },
          },
          log,
        ],
      },
    },
  };
  return JSON.stringify(statement);
}

/** What of a task its receipt tells beside the repository, in the order of its schema. */
function runPart(spec: RunSpec): object {
  const part: Record<string, unknown> = {};
  const from = spec as unknown as Record<string, unknown>;
  for (const key of RUN_KEYS[spec.kind]) if (from[key] !== undefined) part[key] = from[key];
  return part;
}

/** What is known of a receipt before it is read: what the attempt was given, and what came with the receipt. */
export type ExpectedReceipt = Omit<
  Receipt,
  'limits' | 'startedAt' | 'finishedAt' | 'work' | 'checks' | 'checksChanged' | 'checksFlaky'
>;

/**
 * The facts of a receipt that is, to the byte, what `buildReceipt` writes of what is expected and of the rest that it says; so it
 * needs neither a schema nor another look at any of it. Null says nothing of the bytes: `parseReceipt` does. Of goals, changed
 * checks and texts that are not plain ASCII it says nothing.
 */
export function readExpected(bytes: Uint8Array, expected: ExpectedReceipt): Receipt | null {
  const { bundle, log, artifacts } = expected;
  if (bytes.length > statementBytesMax || log?.bytes === 0) return null;
  if (new Set(artifacts.map(({ path }) => path)).size < artifacts.length) return null;
  // A result may say of an artifact what no receipt can.
  if (!artifacts.every(({ sha256 }) => SHA256_HEX.test(sha256))) return null;
  const text = Buffer.from(bytes.buffer, bytes.byteOffset, bytes.length).toString('latin1');
  const said = looselySaid(text);
  if (said === null) return null;
  const { limits, started, finished, codes } = said;
  if (!limitsFit(limits) || !Array.isArray(codes) || !codes.every(isExitCode)) return null;
  const [startedAt, finishedAt] = [unixMsOf(started), unixMsOf(finished)];
  if (startedAt === null || finishedAt === null) return null;
  const facts: Receipt = {
    ...expected,
    limits: limits as Receipt['limits'],
    startedAt,
    finishedAt,
    work: null,
    checks: codes.map((exitCode, at) => ({ line: expected.spec.checks[at] ?? '', exitCode })),
    checksChanged: [],
    bundle: bundle && digestOf(bundle),
    log: log && digestOf(log),
    artifacts: artifacts.map((artifact) => ({ path: artifact.path, ...digestOf(artifact) })),
  };
  if (contradictionIn(facts) !== null) return null;
  const built = receiptText(facts);
  return built === text && Buffer.byteLength(built) === built.length ? facts : null;
}

const SHA256_HEX = /^[0-9a-f]{64}$/;
/** Of whatever it is a part. */
const digestOf = ({ bytes, sha256 }: FileDigest): FileDigest => ({ bytes, sha256 });
const limitsFit: Fits = fitsOf(limitKinds) ?? (() => false);
const isExitCode = (code: unknown): code is number | null => code === null || Number.isSafeInteger(code);
/** The last millisecond whose RFC 3339 form has a year of four digits. */
const LAST_MS = Date.UTC(9999, 11, 31, 23, 59, 59, 999);

function unixMsOf(text: unknown): number | null {
  const ms = typeof text === 'string' ? Date.parse(text) : Number.NaN;
  return ms >= 0 && ms <= LAST_MS ? ms : null;
}

/**
 * What a receipt says of its own, where it is one at all. It is looked for from the end, behind what its task brings along; nothing of
 * it is checked, for whatever was taken for it wrongly makes another text than this.
 */
function looselySaid(
  text: string,
): { limits: unknown; started: unknown; finished: unknown; codes: unknown } | null {
  const between = (begin: string, end: string): string | null => {
    const at = text.lastIndexOf(begin);
    if (at === -1) return null;
    const from = at + begin.length;
    const to = text.indexOf(end, from);
    return to === -1 ? null : text.slice(from, to);
  };
  const limits = between('"limitKinds":{', '}');
  const started = between('"startedOn":"', '"');
  const finished = between('"finishedOn":"', '"');
  const codes = between('"checkExitCodes":[', ']');
  if (limits === null || codes === null) return null;
  try {
    return {
      limits: JSON.parse(`{${limits}}`),
      started,
      finished,
      codes: codes === '' ? [] : JSON.parse(`[${codes}]`),
    };
  } catch {
    return null;
  }
}

/**
 * A receipt from verified bytes. `SF_NOT_PROVED` where the form is another or two of its parts say different things;
 * fields it does not know are skipped except among the external parameters.
 */
export function parseReceipt(bytes: Uint8Array): Receipt {
  const { subject, predicate } = parseDocument(bytes, schema, statementBytesMax, 'the receipt');
  const { externalParameters, internalParameters, resolvedDependencies } = predicate.buildDefinition;
  const { task, base, repository, ...spec } = externalParameters;
  const { limitKinds: limits, ...internal } = internalParameters;
  const { builder, metadata, byproducts } = predicate.runDetails;
  const [{ annotations: result }, log] = byproducts;

  const commits = subject.filter((one) => 'gitCommit' in one.digest) as z.infer<typeof commitSubject>[];
  const files = subject.filter((one) => 'sha256' in one.digest) as z.infer<typeof file>[];
  const digestOf = (one: z.infer<typeof file>): FileDigest => ({
    bytes: one.annotations.bytes,
    sha256: one.digest.sha256,
  });
  const bundle = files.find((one) => one.name === 'bundle');
  const artifacts = files.filter((one) => one.name.startsWith(ARTIFACT));
  const receipt: Receipt = {
    ...internal,
    task,
    executor: builder.id.slice(peerUri('').length),
    spec: {
      ...spec,
      repository: repository === null || base === null ? null : { ...repository, base },
    },
    limits,
    startedAt: metadata.startedOn,
    finishedAt: metadata.finishedOn,
    outcome: result.outcome,
    reason: result.reason,
    exitCode: result.exitCode,
    work: result.work ?? null,
    checks: result.checkExitCodes.map((code, index) => ({ line: spec.checks[index] ?? '', exitCode: code })),
    checksChanged: result.checksChanged,
    ...(result.checksFlaky === undefined ? {} : { checksFlaky: result.checksFlaky }),
    commit: commits[0]?.digest.gitCommit ?? null,
    bundle: bundle === undefined ? null : digestOf(bundle),
    log: log.annotations.bytes === 0 ? null : digestOf(log),
    artifacts: artifacts.map((one) => ({ path: one.name.slice(ARTIFACT.length), ...digestOf(one) })),
  };

  const onlyLog = commits.length === 0 && bundle === undefined && artifacts.length === 0;
  const names = new Set(subject.map((one) => one.name));
  const faults: [boolean, string][] = [
    [builder.id !== peerUri(receipt.executor), 'the builder is no member'],
    [!peerId.safeParse(receipt.executor).success, 'the builder is no member'],
    [metadata.invocationId !== leaseKey(receipt), 'the invocation is another attempt'],
    [(repository === null) !== (base === null), 'a repository and its base come together'],
    [commits.length > 1 || (commits[0]?.name ?? `mesh/${task}`) !== `mesh/${task}`, 'another branch'],
    [resolvedDependencies.length !== (base === null ? 0 : 1), 'the base is not the one dependency'],
    [(resolvedDependencies[0]?.digest.gitCommit ?? null) !== base, 'the dependency is another commit'],
    [
      repository !== null && resolvedDependencies[0]?.uri !== repositoryUri(repository.id),
      'another repository',
    ],
    [names.size !== subject.length, 'a subject is named twice'],
    [
      commits.length + (bundle === undefined ? 0 : 1) + artifacts.length + (onlyLog ? 1 : 0) !==
        subject.length,
      'a subject of no known kind',
    ],
    [onlyLog && subject[0]?.name !== 'log', 'a subject of no known kind'],
    [log.name !== 'log', 'the log is missing'],
    [log.annotations.bytes === 0 && log.digest.sha256 !== NOTHING.sha256, 'an empty log has one digest'],
  ];
  const fault = faults.find(([holds]) => holds)?.[1] ?? contradictionIn(receipt);
  if (fault !== null) throw new SuperfleetError('SF_NOT_PROVED', `the receipt contradicts itself: ${fault}`);
  return receipt;
}

const repositoryUri = (id: string): string => `superfleet:repository:${id}`;

/** The invariants of a receipt's facts, asserted when it is written and again when it is read. */
function contradictionIn(facts: Receipt): string | null {
  const { checks, spec } = facts;
  if ((facts.outcome === 'succeeded') !== (facts.reason === null))
    return 'a reason belongs to a failure, and only there';
  if (checks.length > spec.checks.length) return 'more checks were run than the task has';
  if (checks.some((check, index) => check.line !== spec.checks[index]))
    return 'a check that the task does not have';
  if (facts.checksFlaky?.some((index) => index >= spec.checks.length))
    return 'a flaky check that the task does not have';
  if (facts.outcome === 'succeeded') {
    if (spec.kind === 'command' && facts.exitCode !== 0) return 'a command succeeds with exit code 0';
    if (checks.length !== spec.checks.length || checks.some((check) => check.exitCode !== 0)) {
      return 'a task succeeds with all its checks green';
    }
  }
  if (facts.bundle !== null && facts.commit === null) return 'a bundle without a commit';
  return null;
}
