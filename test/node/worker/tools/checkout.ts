import { mkdir, mkdtemp, readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { type Checkout, checkOut, emptyWorkspace } from '../../../../node/attempt/checkout.ts';
import type { AttemptContext } from '../../../../node/attempt/context.ts';
import { AttemptLog } from '../../../../node/attempt/log.ts';
import { ResultBlobs } from '../../../../node/attempt/result-blobs.ts';
import type { Fetcher } from '../../../../node/environment/fetch.ts';
import { RepositoryCache } from '../../../../node/git/repository-cache.ts';
import { SandboxAhead } from '../../../../node/sandbox/ahead.ts';
import { createSandbox } from '../../../../node/sandbox/bubblewrap.ts';
import { personaOf } from '../../../../node/worker/persona.ts';
import type { ToolContext } from '../../../../node/worker/tools/tool.ts';
import { Toolbox, type ToolOutcome } from '../../../../node/worker/tools/toolbox.ts';
import { WorkspaceFiles } from '../../../../node/worker/tools/workspace.ts';
import type { CommandSpecInput } from '../../../../protocol/task.ts';
import { executorKey, type TestRepository, type World } from '../../attempt/harness.ts';

export interface Options {
  persona?: string;
  secrets?: Record<string, string>;
  spec?: Partial<CommandSpecInput>;
  fetch?: Fetcher | string;
  remainingMs?: () => number;
}

/** Tools on a real checkout, as an attempt makes it, with the real sandbox and log. */
export class Tools {
  readonly checkout: Checkout;
  readonly context: ToolContext;
  readonly box: Toolbox;
  readonly log: AttemptLog;
  readonly signal: AbortSignal;
  #ids = 0;

  private constructor(
    checkout: Checkout,
    context: ToolContext,
    box: Toolbox,
    log: AttemptLog,
    signal: AbortSignal,
  ) {
    this.checkout = checkout;
    this.context = context;
    this.box = box;
    this.log = log;
    this.signal = signal;
  }

  /** Null: a task without a repository. */
  static async open(
    world: World,
    source: { repository: TestRepository; base: string } | null,
    options: Options = {},
    signal: AbortSignal = new AbortController().signal,
  ): Promise<Tools> {
    const {
      persona = 'benjamin',
      secrets = {},
      spec = {},
      fetch = 'the owner of this machine allowed no hosts.',
      remainingMs = () => 60_000,
    } = options;
    const assignment = await world.assignment({ kind: 'command', argv: ['true'], ...spec }, source, {
      secrets,
    });
    const work = await mkdtemp(join(world.folder, 'work-'));
    await mkdir(join(work, 'repos'));
    const log = new AttemptLog(join(work, 'log'), secrets, () => {});
    const attempt: AttemptContext = {
      assignment,
      hooks: { started: () => {}, progress: () => {}, output: () => {}, fetch: async () => {} },
      signal,
      sandbox: new SandboxAhead(createSandbox(), signal),
      blobs: new ResultBlobs(world.founder, false),
      cache: new RepositoryCache(join(work, 'repos')),
      worker: null,
      environments: null,
      work,
      log,
      member: { id: executorKey.peer, name: 'spare-1' },
      time: Date.now,
    };
    const { repository } = assignment.spec;
    const checkout =
      repository === null ? await emptyWorkspace(work) : await checkOut(attempt, repository, null, () => {});
    const context: ToolContext = {
      place: checkout,
      files: new WorkspaceFiles(checkout.path, assignment.spec.limits.workspaceBytes),
      sandbox: attempt.sandbox,
      limits: assignment.spec.limits,
      env: assignment.spec.env,
      secrets,
      log,
      member: 'spare-1',
      remainingMs,
      fetch,
    };
    const box = new Toolbox({ persona: personaOf(persona, null), context });
    return new Tools(checkout, context, box, log, signal);
  }

  /** One call as a model makes it. */
  call(
    name: string,
    args: Record<string, unknown> | null,
    signal: AbortSignal = this.signal,
  ): Promise<ToolOutcome> {
    this.#ids += 1;
    return this.box.call(
      { id: `call-${this.#ids}`, name, arguments: args, text: JSON.stringify(args) },
      signal,
    );
  }

  at(path: string): string {
    return join(this.checkout.path, path);
  }

  text(path: string): Promise<string> {
    return readFile(this.at(path), 'utf8');
  }
}

/** The log's lines, read as the blob it becomes. */
export async function logOf(world: World, tools: Tools): Promise<string[]> {
  const { blob } = await tools.log.finish(new ResultBlobs(world.founder, false));
  const chunks: Uint8Array[] = [];
  for await (const chunk of world.founder.read(blob)) chunks.push(chunk);
  return Buffer.concat(chunks).toString('utf8').split('\n').slice(0, -1);
}
