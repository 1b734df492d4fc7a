import { AttemptFailure } from '../attempt/failure.ts';
import { type Goal, type GoalWorker, noModel, type Pursuit } from '../attempt/goal.ts';
import { choose, noModel as noneFits, type Offer, unnarrowed } from '../brain/choose.ts';
import type { Speeds } from '../brain/speed.ts';
import { type Brain, BrainError } from '../brain/types.ts';
import { withoutTools } from '../brain/without-tools.ts';
import type { AgentConfig } from '../config.ts';
import type { AllowedHost } from '../environment/admission.ts';
import type { SandboxRuntime } from '../environment/runtime.ts';
import { printable } from '../git/fault.ts';
import { AgentPursuit } from './agent.ts';
import type { Candidate } from './loop.ts';
import type { McpConfig } from './mcp/owner.ts';
import { pagesFor } from './network.ts';
import { profileOf } from './profile.ts';
import type { Prompts } from './prompts.ts';
import { GoalPursuit, lenderGone } from './pursuit.ts';
import { rememberedText } from './remembered.ts';

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
  /** Servers whose tools models may use; asked for with each goal. @default none */
  mcp?(): readonly McpConfig[];
  /** What a sandbox is given of this program where it has a way out of it: an agent's, and an MCP server's with hosts. */
  runtime?(): Promise<SandboxRuntime>;
  /** Servers of models that this machine may ask now. */
  brains(): Promise<readonly Brain[]>;
  speeds: Pick<Speeds, 'of' | 'note'>;
  prompts: Pick<Prompts, 'instructions'>;
  /** Hosts that the owner allows; asked for with each goal. @default none */
  hosts?(): readonly AllowedHost[];
  /** As of the loop: before a request is made again. @default a timer */
  wait?(ms: number): Promise<unknown>;
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
    const pays = agent === null && mayPay(goal);
    const candidates = await this.#candidates(goal, agent, pays, signal);
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
    const { runtime, speeds } = this.#options;
    const owner = { servers: this.#options.mcp?.() ?? [], runtime };
    const { wait } = this.#options;
    const how = { text, persona, told, ...profile, ...(wait === undefined ? {} : { wait }) };
    // Where a cloud vanishes, local models may have come back meanwhile.
    const again = async (): Promise<Candidate[]> => {
      const local = await this.#candidates(goal, agent, false, signal);
      return local instanceof AttemptFailure ? [] : local;
    };
    return new GoalPursuit(goal, candidates, how, speeds, fetch, owner, pays ? again : null);
  }

  /** Whom to ask, in this order; a failure: there is nobody. */
  async #candidates(
    { context, spec }: Goal,
    agent: AgentConfig | null,
    pays: boolean,
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
      cloud: pays,
    });
    if (choice.candidates.length === 0) {
      if (spec.code.cloud === true && !pays) silent.push('a cloud needs a budget of money, and none is set');
      const why = [noneFits(choice).message, ...silent].join('; ');
      const borrows = brains.some(({ place }) => place === 'mesh');
      return (borrows ? lenderGone : noModel)(context.member.name, why);
    }
    const { rejectedBy = [], failedModels = [] } = context.assignment;
    const last = (model: string): number =>
      rejectedBy.includes(model) || failedModels.includes(model) ? 1 : 0;
    // Stable: of the others the order stays.
    const inTurn = unnarrowed(choice.candidates, contextTokensMax).toSorted(
      (a, b) => last(a.offer.model.name) - last(b.offer.model.name),
    );
    return inTurn.map(({ offer, byFormat }) => ({
      brain: byFormat ? withoutTools(offer.of) : offer.of,
      model: offer.model.name,
      contextTokens: Math.min(offer.model.contextTokens ?? contextTokensMax, contextTokensMax),
    }));
  }
}

/** A cloud may be asked for this goal: who sent it says so, and there is a budget of money, however much is left of it. */
const mayPay = ({ context, spec }: Goal): boolean =>
  spec.code.cloud === true && (context.assignment.allowance?.money ?? null) !== null;

/** A name that a receipt can hold and a terminal can show. */
const isNamed = (name: string): boolean =>
  name.length > 0 && name.length <= modelLengthMax && printable(name) === name;
