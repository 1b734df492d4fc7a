import { createHash } from 'node:crypto';
import { z } from 'zod';
import { blobId, commitId, count, labels, memberName, peerId, secretName } from './ids.ts';
import {
  artifactsMax,
  brainPattern,
  goalCharactersMax,
  healsDefault,
  memoryBytesMax,
  personaPattern,
  processesMax,
  retriesMax,
  tagPattern,
  tagsMax,
  taskTimeoutMs,
  taskToolsMax,
  tokensDefault,
  turnsDefault,
  workspaceBytesMax,
} from './limits.ts';

export const TASK_STATES = [
  'proposed',
  'queued',
  'assigned',
  'running',
  'executed',
  'verified',
  'delivered',
  'failed',
  'cancelled',
  'rejected',
] as const;
export type TaskState = (typeof TASK_STATES)[number];
export const TERMINAL_STATES: ReadonlySet<TaskState> = new Set([
  'delivered',
  'failed',
  'cancelled',
  'rejected',
]);

/** Why a task failed (outside contract). */
export const FAILURE_REASONS = [
  'task',
  'check',
  'environment',
  'timeout',
  'budget',
  'signal',
  'lost',
  'refused',
] as const;
export const failureReason = z.enum(FAILURE_REASONS);
export type FailureReason = z.infer<typeof failureReason>;

/** Whose fault a failed attempt is: a machine's costs the task no retry. */
export const fault = z.enum(['machine', 'task', 'person']);
export type Fault = z.infer<typeof fault>;

/** confidence is a stated convention, no measurement (outside contract). */
export const CONFIDENCE = {
  noChecks: 0.1,
  ownChecks: 0.3,
  verified: 0.9,
  verifiedLowConfidence: 0.6,
} as const;

const relativePath = z
  .string()
  .min(1)
  .max(512)
  .refine((path) => !/^\/|(?:^|\/)\.\.(?:\/|$)|\0/.test(path), {
    message: 'a path inside the workspace, without ..',
  });

/**
 * A repository at a commit. `bundle` carries `base` and what the mesh did not yet hold; `prerequisites` are the
 * commits that bundle rests on, each the base of an earlier submission.
 */
export const repositoryInput = z.strictObject({
  /** Object name of the first root commit that git lists: the same for every clone. */
  id: z.string().regex(/^[0-9a-f]{40,64}$/),
  /** Last part of the repository's path, for people. */
  name: z.string().min(1).max(128),
  /** What the person typed for `--ref`. */
  ref: z.string().max(256),
  base: commitId,
});
export type RepositoryInput = z.infer<typeof repositoryInput>;

/** A bundle the mesh holds: fetching it gives `commit` to whoever has `prerequisites`. */
export const repositoryBundle = z.strictObject({
  commit: commitId,
  bundle: blobId,
  prerequisites: z.array(commitId).max(64),
});
export type RepositoryBundle = z.infer<typeof repositoryBundle>;

export const taskLimits = z.strictObject({
  memoryBytes: count.max(2 ** 50).default(memoryBytesMax),
  processes: count.min(1).max(65_536).default(processesMax),
  workspaceBytes: count.max(2 ** 50).default(workspaceBytesMax),
});

/** A tool a task needs, by the name it is run by. */
export const toolName = z
  .string()
  .regex(/^[a-z0-9][a-z0-9+._-]{0,31}$/, 'the name of a tool, such as node or python3');
/** Versions that will do: `*`, or comparisons of one to three numbers, all of which must hold, such as `>=20 <25`. */
export const toolRange = z
  .string()
  .max(128)
  .regex(
    /^(\*|((>=|<=|>|<|=)\d{1,9}(\.\d{1,9}){0,2})( (>=|<=|>|<|=)\d{1,9}(\.\d{1,9}){0,2})*)$/,
    'versions such as >=20',
  );
export const modelName = z
  .string()
  .regex(/^[^\p{C}\s]{1,128}$/u, 'the name of a model: 1–128 printable characters');

/** What a task of any kind says. */
const shared = {
  /** Each run by `sh -c` in the workspace, in order; all must exit 0. */
  checks: z.array(z.string().min(1).max(4096)).max(64).default([]),
  /** Globs of files restored from the base before checks run, besides those that the check lines name. */
  checkFiles: z.array(relativePath).max(64).default([]),
  env: z
    .record(
      z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/),
      z
        .string()
        .max(8192)
        .refine((value) => !value.includes('\0')),
    )
    .default({}),
  secrets: z.array(secretName).max(32).default([]),
  artifacts: z.array(relativePath).max(artifactsMax).default([]),
  /** Constraints on the executor's labels. */
  labels: labels.default({}),
  /** Only members that offer this model. @default any member */
  model: modelName.optional(),
  /** Only members that have these tools: name → versions. Verifiers need them too. @default any member */
  tools: z
    .record(toolName, toolRange)
    .refine((all) => Object.keys(all).length <= taskToolsMax, `at most ${taskToolsMax} tools`)
    .optional(),
  /** Only this member may execute: a name or a peer id. */
  on: z.union([memberName, peerId]).nullable().default(null),
  timeoutMs: count.min(1).default(taskTimeoutMs),
  checkTimeoutMs: count.min(1).default(taskTimeoutMs),
  /** Further attempts after a fault of the task. */
  retries: count.max(retriesMax).default(0),
  requireVerified: z.boolean().default(false),
  limits: taskLimits.prefault({}),
  repository: repositoryInput.nullable().default(null),
};

/** A command, run in the workspace. */
export const commandSpec = z.strictObject({
  kind: z.literal('command'),
  /** argv, no shell. */
  argv: z.array(z.string().max(8192)).min(1).max(512),
  ...shared,
});
export type CommandSpec = z.infer<typeof commandSpec>;
export type CommandSpecInput = z.input<typeof commandSpec>;

/** How a model works on a goal. */
export const codeWork = z.strictObject({
  /** In the words of a person. */
  goal: z.string().min(1).max(goalCharactersMax),
  /** Whom the model speaks as; decides what it may do. */
  persona: z.string().regex(personaPattern, 'a name such as benjamin').default('benjamin'),
  /** Only this brain: `ollama`, `openai`, or an agent of the machine by its name. @default the first that fits, no agent */
  brain: z.string().regex(brainPattern, 'a name such as ollama').optional(),
  /** One answer, or as many turns as it takes. */
  mode: z.enum(['single', 'multi']).default('multi'),
  /** What kind of work it is, such as `docs` or `complex`: decides how it is put to the model. @default none */
  tags: z.array(z.string().regex(tagPattern, 'a word such as docs')).min(1).max(tagsMax).optional(),
  /** Answers of the model at most, healing included. */
  turns: count.min(1).max(1000).default(turnsDefault),
  /** Tokens of prompts and answers together at most. */
  tokens: count
    .min(1)
    .max(2 ** 40)
    .default(tokensDefault),
  /** Times a red check is shown to the model to be mended. */
  heals: count.max(20).default(healsDefault),
  /** A cloud may be asked where no other model answers and a budget of money has room. @default it may not */
  cloud: z.boolean().optional(),
});

/** A goal that a model pursues until the checks pass. `timeoutMs` bounds all of its work, checks apart. */
export const codeSpec = z.strictObject({
  kind: z.literal('code'),
  code: codeWork,
  ...shared,
});
export type CodeSpec = z.infer<typeof codeSpec>;
export type CodeSpecInput = z.input<typeof codeSpec>;

/** What the submitter asks for. Public: logged, shown, and signed into the receipt. Secrets are names only. */
export const taskSpec = z.discriminatedUnion('kind', [commandSpec, codeSpec]);
export type TaskSpec = z.infer<typeof taskSpec>;
/** What may be left out when a task is submitted. */
export type TaskSpecInput = z.input<typeof taskSpec>;

/** One digest of all artifacts: of paths, sizes and contents, in whatever order they come. */
export function artifactsDigest(artifacts: readonly Pick<Artifact, 'path' | 'bytes' | 'sha256'>[]): string {
  const lines = artifacts.map(({ path, bytes, sha256 }) => `${sha256} ${bytes} ${path}\n`).sort();
  return createHash('sha256').update(lines.join('')).digest('hex');
}

/** A file named by the submitter's globs, as the executor returned it. */
export const artifact = z.strictObject({
  path: relativePath,
  blob: blobId,
  bytes: count,
  sha256: z.string().length(64),
});
export type Artifact = z.infer<typeof artifact>;
