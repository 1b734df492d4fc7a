import { modelNoteCharactersMax, questionCharactersMax } from '../../protocol/limits.ts';
import type { WorkDone } from '../../protocol/receipt.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { CheckRun } from '../attempt/checks.ts';
import { AttemptFailure } from '../attempt/failure.ts';
import { type Goal, noModel, type Pursuit } from '../attempt/goal.ts';
import type { Speeds } from '../brain/speed.ts';
import type { ToolCall } from '../brain/types.ts';
import type { Fetcher } from '../environment/fetch.ts';
import type { SandboxRuntime } from '../environment/runtime.ts';
import { Conversation } from './conversation.ts';
import { goalText, otherWayText, redText } from './goal-text.ts';
import { type Candidate, type Hands, type LoopResult, runLoop, type Stopped } from './loop.ts';
import type { McpConfig } from './mcp/owner.ts';
import { McpServers } from './mcp/servers.ts';
import { Meter } from './meter.ts';
import type { Persona } from './persona.ts';
import type { Profile } from './profile.ts';
import { rememberedLine, type Told } from './remembered.ts';
import type { ToolContext } from './tools/tool.ts';
import { TOOLS, Toolbox } from './tools/toolbox.ts';
import { WorkspaceFiles } from './tools/workspace.ts';

/** What definitions of MCP servers' tools take of a context: a third of it, as tokens of three characters, and no more than this. */
const mcpCharactersPerToken = 1;
const mcpCharactersMax = 24_000;

/** What became of what the task may use, over all its ways. */
interface Spent {
  turns: number;
  calls: number;
  heals: number;
  ms: number;
  promptTokens: number | null;
  generatedTokens: number | null;
  /** Estimated where a server does not count. */
  tokens: number;
}

/** How a model is spoken to. */
interface How {
  text: string;
  persona: Persona;
  told: Told | null;
  /** As of the loop. @default a timer */
  wait?(ms: number): Promise<unknown>;
}

/** What the owner gives models besides. */
interface OwnersServers {
  servers: readonly McpConfig[];
  runtime: (() => Promise<SandboxRuntime>) | undefined;
}

/** A goal in the hands of the models that this machine may ask, one way after the other. */
export class GoalPursuit implements Pursuit {
  readonly #goal: Goal;
  readonly #candidates: readonly Candidate[];
  readonly #instructions: string;
  readonly #answerTokens: number;
  readonly #speeds: Pick<Speeds, 'note'>;
  readonly #owner: OwnersServers;
  readonly #persona: Persona;
  readonly #context: ToolContext;
  #toolbox: Toolbox;
  /** Null: not yet asked. */
  #mcp: McpServers | null = null;
  readonly #told: Told | null;
  readonly #meter: Meter;
  /** Whom to ask when a cloud has vanished; null: no cloud may be asked. */
  readonly #again: (() => Promise<Candidate[]>) | null;
  readonly #wait: ((ms: number) => Promise<unknown>) | null;
  readonly #spent: Spent = {
    turns: 0,
    calls: 0,
    heals: 0,
    ms: 0,
    promptTokens: 0,
    generatedTokens: 0,
    tokens: 0,
  };
  /** What it was told at first. */
  #goalText = '';
  #conversation: Conversation;
  #began = 0;
  #asked: { brain: string; model: string } | null = null;
  #lowConfidence = false;
  /** What the model left for whoever works there next. */
  #note: string | undefined;
  #signal: WorkDone['signal'];
  #stopped: AttemptFailure | null = null;

  constructor(
    goal: Goal,
    candidates: readonly Candidate[],
    { text: instructions, persona, told, answerTokens, wait }: Profile & How,
    speeds: Pick<Speeds, 'note'>,
    fetch: Fetcher | string,
    owner: OwnersServers,
    again: (() => Promise<Candidate[]>) | null,
  ) {
    this.#goal = goal;
    this.#owner = owner;
    this.#again = again;
    this.#wait = wait ?? null;
    this.#persona = persona;
    this.#told = told;
    this.#candidates = candidates;
    this.#instructions = instructions;
    this.#answerTokens = answerTokens;
    this.#speeds = speeds;
    this.#conversation = new Conversation(instructions, '');
    const { assignment, log, member, sandbox } = goal.context;
    this.#meter = new Meter(assignment.allowance, (usage) => goal.context.hooks.used?.(usage));
    const { env, limits } = goal.spec;
    const context: ToolContext = {
      place: goal.checkout,
      files: new WorkspaceFiles(goal.checkout.path, limits.workspaceBytes),
      sandbox,
      limits,
      env,
      secrets: assignment.secrets,
      log,
      member: member.name,
      remainingMs: () => this.#msLeft(),
      fetch,
    };
    this.#context = context;
    this.#toolbox = new Toolbox({ persona, context });
  }

  get stopped(): AttemptFailure | null {
    return this.#stopped;
  }

  get done(): Pursuit['done'] {
    if (this.#asked === null) return null;
    const { turns, calls, heals, promptTokens, generatedTokens } = this.#spent;
    return {
      ...this.#asked,
      turns,
      calls,
      promptTokens,
      generatedTokens,
      heals,
      lowConfidence: this.#lowConfidence,
      ...(this.#signal === undefined ? {} : { signal: this.#signal }),
      ...(this.#told === null ? {} : { remembered: this.#told.records.length }),
      ...(this.#note === undefined ? {} : { note: this.#note }),
    };
  }

  get usage(): Usage {
    return this.#meter.usage;
  }

  async begin(before: readonly CheckRun[]): Promise<void> {
    if (this.#told !== null) await this.#goal.context.log.say(rememberedLine(this.#told));
    this.#goalText = goalText(this.#goal.spec, before, this.#goal.context.assignment);
    this.#conversation = this.#conversationOn(this.#goalText);
    await this.#askServers();
    await this.#work();
  }

  /** The owner's servers for their tools, once, while nothing else of the task runs. */
  async #askServers(): Promise<void> {
    const { servers, runtime } = this.#owner;
    if (servers.length === 0) return;
    const narrowest = Math.min(...this.#candidates.map(({ contextTokens }) => contextTokens));
    this.#mcp = await McpServers.open(this.#goal, {
      servers,
      runtime: () => runtime?.() ?? Promise.reject(new Error('it cannot give a server a way to hosts')),
      persona: this.#persona,
      charactersMax: Math.min(mcpCharactersMax, Math.floor(narrowest * mcpCharactersPerToken)),
      remainingMs: () => this.#msLeft(),
    });
    const tools = [...TOOLS, ...this.#mcp.tools];
    this.#toolbox = new Toolbox({ persona: this.#persona, context: this.#context, tools });
  }

  heal(red: CheckRun): Promise<void> {
    this.#spent.heals += 1;
    this.#conversation.say(redText(red));
    return this.#work();
  }

  otherWay(red: CheckRun): Promise<void> {
    this.#spent.heals += 1;
    this.#conversation = this.#conversationOn(`${this.#goalText}\n\n${otherWayText(red)}`);
    return this.#work();
  }

  #conversationOn(goal: string): Conversation {
    return new Conversation(this.#instructions, goal, this.#told?.text ?? null);
  }

  #msLeft(): number {
    const running = this.#began === 0 ? 0 : performance.now() - this.#began;
    return Math.max(0, this.#goal.spec.timeoutMs - this.#spent.ms - running);
  }

  async #work(): Promise<void> {
    const { context, spec } = this.#goal;
    const { code } = spec;
    const spent = this.#spent;
    const bounds = {
      turns: code.turns - spent.turns,
      tokens: code.tokens - spent.tokens,
      wallMs: this.#msLeft(),
      answerTokens: this.#answerTokens,
    };
    this.#stopped = null;
    this.#began = performance.now();
    try {
      const result = await runLoop(
        {
          candidates: this.#candidates,
          conversation: this.#conversation,
          hands: this.#hands(),
          bounds,
          singleTurn: code.mode === 'single',
          mayAsk: (candidate, promptTokens) => this.#meter.mayAsk(candidate, promptTokens),
          spent: async (candidate, spent) => {
            const line = this.#meter.note(candidate, spent);
            if (line !== null) await context.log.say(line);
          },
          ...(this.#again === null ? {} : { again: this.#again }),
          ...(this.#wait === null ? {} : { wait: this.#wait }),
          note: (line) => context.log.say(line),
          answered: ({ brain, model }, usage) => {
            this.#asked = { brain: brain.name, model };
            this.#speeds.note(brain.server, model, usage);
          },
        },
        context.signal,
      );
      this.#count(result);
      await this.#conclude(result);
    } finally {
      // What is taken next is what no process writes any more.
      await this.#mcp?.stop();
      spent.ms += performance.now() - this.#began;
      this.#began = 0;
    }
  }

  #hands(): Hands {
    const toolbox = this.#toolbox;
    return {
      definitions: toolbox.definitions,
      call: (call: ToolCall, signal) => {
        this.#goal.context.hooks.progress('run', this.#goal.context.log.bytes);
        return toolbox.call(call, signal);
      },
    };
  }

  #count(result: LoopResult): void {
    const spent = this.#spent;
    const add = (a: number | null, b: number | null): number | null =>
      a === null || b === null ? null : a + b;
    spent.turns += result.turns;
    spent.calls += result.calls;
    spent.tokens += result.tokens;
    spent.promptTokens = add(spent.promptTokens, result.promptTokens);
    spent.generatedTokens = add(spent.generatedTokens, result.generatedTokens);
  }

  /** Every model that could be asked here was, and none answers. */
  #letDown(failure: AttemptFailure): AttemptFailure {
    failure.failedModels = this.#candidates.map(({ model }) => model);
    return failure;
  }

  async #conclude({ ending, turns }: LoopResult): Promise<void> {
    const { log, member } = this.#goal.context;
    switch (ending.kind) {
      case 'finish':
        this.#lowConfidence ||= ending.lowConfidence;
        if (ending.note !== undefined)
          this.#note = log.masked(ending.note).slice(0, modelNoteCharactersMax).toWellFormed();
        await log.say(
          `the model is done${ending.lowConfidence ? ', not sure of it' : ''}: ${ending.summary}`,
        );
        return;
      case 'signal':
        if (ending.signal === 'low_confidence') {
          this.#lowConfidence = true;
          await log.say(`the model is done, not sure of it: ${ending.text}`);
          return;
        }
        this.#signal = {
          kind: ending.signal,
          text: log.masked(ending.text).slice(0, questionCharactersMax).toWellFormed(),
        };
        throw new AttemptFailure('signal', 'task', `${ending.signal}: ${this.#signal.text}`);
      case 'stopped': {
        await log.say(`the model was stopped (${ending.why}): ${ending.text}`);
        const nobody = ending.why === 'brain' && turns === 0 && this.#asked === null;
        const borrows = this.#candidates.every(({ brain }) => brain.place === 'mesh');
        if (ending.why === 'brain' && borrows) throw this.#letDown(lenderGone(member.name, ending.text));
        this.#stopped = nobody
          ? noModel(member.name, ending.text)
          : stoppedFailure(ending.why, ending.text, member.name);
        // Without a model there is nothing to judge.
        if (ending.why === 'brain') throw this.#letDown(this.#stopped);
      }
    }
  }
}

/** What others lend comes and goes: the machine lacks nothing for good, and may have the task again. */
export const lenderGone = (member: string, why: string): AttemptFailure =>
  new AttemptFailure('lost', 'machine', `no machine that lends ${member} a model answers: ${why}`);

/** Why a model did not end by itself, as the reason of the task. */
function stoppedFailure(why: Stopped, text: string, member: string): AttemptFailure {
  switch (why) {
    case 'time':
      return new AttemptFailure('timeout', 'task', `the model had not reached the goal ${text}`);
    case 'tokens':
    case 'turns':
    case 'budget':
      return new AttemptFailure('budget', 'task', `the model had not reached the goal: ${text}`);
    case 'brain':
      return new AttemptFailure('environment', 'machine', `the model on ${member} went away: ${text}`);
    default:
      return new AttemptFailure('task', 'task', `the model did not reach the goal (${why}): ${text}`);
  }
}
