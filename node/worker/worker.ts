import { questionCharactersMax } from '../../protocol/limits.ts';
import type { WorkDone } from '../../protocol/receipt.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { CheckRun } from '../attempt/checks.ts';
import { AttemptFailure } from '../attempt/failure.ts';
import { type Goal, type GoalWorker, noModel, type Pursuit } from '../attempt/goal.ts';
import { choose, noModel as noneFits, type Offer, unnarrowed } from '../brain/choose.ts';
import type { Speeds } from '../brain/speed.ts';
import { type Brain, BrainError, type ToolCall } from '../brain/types.ts';
import { withoutTools } from '../brain/without-tools.ts';
import type { AgentConfig } from '../config.ts';
import type { AllowedHost } from '../environment/admission.ts';
import type { Fetcher } from '../environment/fetch.ts';
import type { SandboxRuntime } from '../environment/runtime.ts';
import { printable } from '../git/fault.ts';
import { AgentPursuit } from './agent.ts';
import { Conversation } from './conversation.ts';
import { goalText, otherWayText, redText } from './goal-text.ts';
import { type Candidate, type Hands, type LoopResult, runLoop, type Stopped } from './loop.ts';
import { Meter } from './meter.ts';
import { pagesFor } from './network.ts';
import type { Persona } from './persona.ts';
import { type Profile, profileOf } from './profile.ts';
import type { Prompts } from './prompts.ts';
import { rememberedLine, rememberedText, type Told } from './remembered.ts';
import type { ToolContext } from './tools/tool.ts';
import { Toolbox } from './tools/toolbox.ts';
import { WorkspaceFiles } from './tools/workspace.ts';

/** Prompt and answer together that a model is asked to hold, where it can hold more. */
const contextTokensMax = 32_768;
/** A model that says that it holds less than this is not asked to write code. */
const contextTokensMin = 4_096;
/** Of a model's name, as receipts hold it. */
const modelLengthMax = 128;
/** A server has this long to list its models. */
const listMs = 5_000;

export interface WorkerOptions {
  /** Coding agents of this machine. @default none */
  agents?(): readonly AgentConfig[];
  /** What an agent's sandbox is given of this program; asked for where an agent is. */
  runtime?(): Promise<SandboxRuntime>;
  /** Servers of models that this machine may ask now. */
  brains(): Promise<readonly Brain[]>;
  speeds: Speeds;
  prompts: Prompts;
  /** Hosts that the owner allows; asked for with each goal. @default none */
  hosts?(): readonly AllowedHost[];
}

/** Pursues goals with the models that this machine may ask. */
export class ConvergenceWorker implements GoalWorker {
  readonly #options: WorkerOptions;

  constructor(options: WorkerOptions) {
    this.#options = options;
  }

  async begin(goal: Goal): Promise<Pursuit> {
    const { member, signal } = goal.context;
    const { brain, persona: name } = goal.spec.code;
    const agent = this.#options.agents?.().find((one) => one.name === brain) ?? null;
    const candidates = await this.#candidates(goal, agent, signal);
    if (candidates instanceof AttemptFailure) throw candidates;
    const profile = profileOf(goal.spec, Math.min(...candidates.map(({ contextTokens }) => contextTokens)));
    const { text, persona } = await this.#options.prompts.instructions(profile, name);
    const told = rememberedText(goal.context.assignment.remembered ?? [], profile.style === 'compact');
    if (agent !== null) {
      const runtime = await this.#options.runtime?.();
      if (runtime === undefined) throw noModel(member.name, 'it cannot run agents');
      return new AgentPursuit(goal, agent, candidates[0]!, persona, runtime, told);
    }
    const fetch = await pagesFor(goal, this.#options.hosts?.() ?? []);
    const how = { text, persona, told, ...profile };
    return new GoalPursuit(goal, candidates, how, this.#options.speeds, fetch);
  }

  /** Whom to ask, in this order; a failure: there is nobody. */
  async #candidates(
    { context, spec }: Goal,
    agent: AgentConfig | null,
    signal: AbortSignal,
  ): Promise<Candidate[] | AttemptFailure> {
    // An agent is let to one server of this machine, and not into the mesh.
    const brains = (await this.#options.brains()).filter(({ place }) => agent === null || place !== 'mesh');
    const silent: string[] = [];
    const listed = await Promise.all(
      brains.map(async (brain) => {
        try {
          const models = await brain.models(AbortSignal.any([signal, AbortSignal.timeout(listMs)]));
          return models.filter(({ name }) => isNamed(name)).map((model) => ({ brain, model }));
        } catch (error) {
          signal.throwIfAborted();
          if (!(error instanceof BrainError)) throw error;
          silent.push(error.message);
          return [];
        }
      }),
    );
    const offers = listed.flat().map(({ brain, model }) => ({
      of: brain,
      brain: brain.name,
      place: brain.place,
      server: brain.server,
      model,
      speed: this.#options.speeds.of(brain.server, model.name),
    }));
    const choice = choose<Offer & { of: Brain }>(offers, {
      model: spec.model ?? agent?.model ?? null,
      brain: agent === null ? (spec.code.brain ?? null) : null,
      contextTokens: contextTokensMin,
      tools: 'any',
      cloud: false,
    });
    if (choice.candidates.length === 0) {
      const why = [noneFits(choice).message, ...silent].join('; ');
      const borrows = brains.some(({ place }) => place === 'mesh');
      return (borrows ? lenderGone : noModel)(context.member.name, why);
    }
    const rejected = (model: string): number => (context.assignment.rejectedBy?.includes(model) ? 1 : 0);
    // Stable: of the others the order stays.
    const inTurn = unnarrowed(choice.candidates, contextTokensMax).toSorted(
      (a, b) => rejected(a.offer.model.name) - rejected(b.offer.model.name),
    );
    return inTurn.map(({ offer, byFormat }) => ({
      brain: byFormat ? withoutTools(offer.of) : offer.of,
      model: offer.model.name,
      contextTokens: Math.min(offer.model.contextTokens ?? contextTokensMax, contextTokensMax),
    }));
  }
}

/** A name that a receipt can hold and a terminal can show. */
const isNamed = (name: string): boolean =>
  name.length > 0 && name.length <= modelLengthMax && printable(name) === name;

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
}

class GoalPursuit implements Pursuit {
  readonly #goal: Goal;
  readonly #candidates: readonly Candidate[];
  readonly #instructions: string;
  readonly #answerTokens: number;
  readonly #speeds: Speeds;
  readonly #toolbox: Toolbox;
  readonly #told: Told | null;
  readonly #meter: Meter;
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
  #signal: WorkDone['signal'];
  #stopped: AttemptFailure | null = null;

  constructor(
    goal: Goal,
    candidates: readonly Candidate[],
    { text: instructions, persona, told, answerTokens }: Profile & How,
    speeds: Speeds,
    fetch: Fetcher | string,
  ) {
    this.#goal = goal;
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
    this.#toolbox = new Toolbox({ persona, context });
  }

  get stopped(): AttemptFailure | null {
    return this.#stopped;
  }

  get done(): Omit<WorkDone, 'files' | 'lesson'> | null {
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
    };
  }

  get usage(): Usage {
    return this.#meter.usage;
  }

  async begin(before: readonly CheckRun[]): Promise<void> {
    if (this.#told !== null) await this.#goal.context.log.say(rememberedLine(this.#told));
    this.#goalText = goalText(this.#goal.spec, before, this.#goal.context.assignment);
    this.#conversation = this.#conversationOn(this.#goalText);
    await this.#work();
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
          spent: (candidate, spent) => this.#meter.note(candidate, spent),
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

  async #conclude({ ending, turns }: LoopResult): Promise<void> {
    const { log, member } = this.#goal.context;
    switch (ending.kind) {
      case 'finish':
        this.#lowConfidence ||= ending.lowConfidence;
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
        if (ending.why === 'brain' && borrows) throw lenderGone(member.name, ending.text);
        this.#stopped = nobody
          ? noModel(member.name, ending.text)
          : stoppedFailure(ending.why, ending.text, member.name);
        // Without a model there is nothing to judge.
        if (ending.why === 'brain') throw this.#stopped;
      }
    }
  }
}

/** What others lend comes and goes: the machine lacks nothing for good, and may have the task again. */
const lenderGone = (member: string, why: string): AttemptFailure =>
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
