import { mkdir, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import type { WorkDone } from '../../protocol/receipt.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { CheckRun } from '../attempt/checks.ts';
import { AttemptFailure } from '../attempt/failure.ts';
import type { Goal, Pursuit } from '../attempt/goal.ts';
import { runStep } from '../attempt/step.ts';
import type { AgentConfig } from '../config.ts';
import type { SandboxRuntime } from '../environment/runtime.ts';
import { lookupOnLan } from '../offer/models.ts';
import { SANDBOX_HOME } from '../sandbox/profile.ts';
import type { Mount } from '../sandbox/types.ts';
import { goalText, otherWayText, redText } from './goal-text.ts';
import type { Candidate } from './loop.ts';
import { type Asked, Meter } from './meter.ts';
import { ModelDoor } from './model-door.ts';
import type { Persona } from './persona.ts';
import { rememberedLine, type Told } from './remembered.ts';

/** Where the agent finds its model: the sandbox's network holds nothing else. */
const PORT = 11_434;
const URL_INSIDE = `http://127.0.0.1:${PORT}`;

/** The model that an agent is given. */
export interface AgentModel {
  /** Of its server, as this machine reaches it. */
  url: string;
  name: string;
}

/**
 * A coding agent that the owner has installed, run on a goal in the sandbox of the task. Its model is the only address it reaches, by one
 * socket of this attempt and a forwarder inside; whatever it does there, the checks judge.
 */
export class AgentPursuit implements Pursuit {
  readonly #goal: Goal;
  readonly #agent: AgentConfig;
  readonly #model: AgentModel;
  readonly #meter: Meter;
  readonly #asks: Asked;
  readonly #writes: boolean;
  readonly #runtime: SandboxRuntime;
  readonly #told: Told | null;
  #before = '';
  #work: Omit<WorkDone, 'files' | 'lesson'>;
  #asked = false;
  #msLeft: number;
  /** Spent, estimated where they were not counted. */
  #tokens = 0;
  #stopped: AttemptFailure | null = null;

  constructor(
    goal: Goal,
    agent: AgentConfig,
    { brain, model }: Candidate,
    persona: Persona,
    runtime: SandboxRuntime,
    told: Told | null = null,
  ) {
    this.#goal = goal;
    this.#told = told;
    this.#agent = agent;
    this.#model = { url: brain.server, name: model };
    const { assignment, hooks } = goal.context;
    this.#meter = new Meter(assignment.allowance, (usage) => hooks.used?.(usage));
    this.#asks = { brain: { name: agent.name, place: brain.place }, model };
    this.#writes = persona.may.has('write');
    this.#runtime = runtime;
    this.#msLeft = goal.spec.timeoutMs;
    this.#work = {
      brain: agent.name,
      model,
      turns: 0,
      calls: 0,
      promptTokens: 0,
      generatedTokens: 0,
      heals: 0,
      lowConfidence: false,
      ...(told === null ? {} : { remembered: told.records.length }),
    };
  }

  get done(): Omit<WorkDone, 'files' | 'lesson'> | null {
    return this.#asked ? this.#work : null;
  }

  get usage(): Usage {
    return this.#meter.usage;
  }

  get stopped(): AttemptFailure | null {
    return this.#stopped;
  }

  async begin(before: readonly CheckRun[]): Promise<void> {
    const { assignment, log } = this.#goal.context;
    const goal = goalText(this.#goal.spec, before, assignment);
    if (this.#told !== null) await log.say(rememberedLine(this.#told));
    this.#before = this.#told === null ? goal : `${this.#told.text}\n\n${goal}`;
    await this.#run(this.#before);
  }

  heal(red: CheckRun): Promise<void> {
    this.#work.heals += 1;
    return this.#run(`${this.#before}\n\n${redText(red)}`);
  }

  otherWay(red: CheckRun): Promise<void> {
    this.#work.heals += 1;
    return this.#run(`${this.#before}\n\n${otherWayText(red)}`);
  }

  async #run(text: string): Promise<void> {
    const { context, checkout, spec } = this.#goal;
    const { log, member, sandbox, signal, work } = context;
    this.#stopped = null;
    const door = await ModelDoor.open({
      url: this.#model.url,
      model: this.#model.name,
      tokensMax: Math.max(0, spec.code.tokens - this.#tokens),
      requestsMax: Math.max(0, spec.code.turns - this.#work.turns),
      lookup: lookupOnLan,
      mayAsk: (promptTokens) => this.#meter.mayAsk(this.#asks, promptTokens)?.why ?? null,
      spent: (spent) => void this.#meter.note(this.#asks, spent),
    });
    const began = performance.now();
    try {
      const fill = (template: string): string =>
        template.replace(/\{(goal|model|url)\}/g, (_, name: string) =>
          name === 'goal' ? text : name === 'model' ? this.#model.name : URL_INSIDE,
        );
      const forwarded = this.#runtime.forwarded(
        { socket: door.socket, port: PORT, variables: [] },
        this.#agent.argv.map(fill),
      );
      const step = {
        name: `the agent ${this.#agent.name}`,
        line: this.#agent.argv.join(' '),
        argv: forwarded.argv,
        env: { ...spec.env, ...mapValues(this.#agent.env, fill) },
        timeoutMs: Math.max(1, Math.ceil(this.#msLeft)),
      };
      const mounts = [
        // Who only reads finds the workspace read-only.
        ...checkout.mounts.map((mount) => ({ ...mount, writable: mount.writable && this.#writes })),
        ...forwarded.mounts,
        ...this.#agent.readOnly.map((path): Mount => ({ from: path, to: path, writable: false })),
        ...(await this.#files(work, fill)),
      ];
      this.#asked = true;
      const exitCode = await runStep(
        sandbox,
        step,
        mounts,
        checkout.path,
        spec.limits,
        log,
        member.name,
        signal,
      );
      if (exitCode !== 0) {
        const why = `the agent ${this.#agent.name} exited with ${exitCode}`;
        this.#stopped =
          door.exhausted === null
            ? new AttemptFailure('task', 'task', why)
            : new AttemptFailure('budget', 'task', `${door.exhausted}; ${why}`);
      }
    } catch (error) {
      // A limit or the clock ended it; what it had done by then may be right.
      if (!(error instanceof AttemptFailure) || error.fault === 'machine') throw error;
      this.#stopped = error;
    } finally {
      this.#msLeft -= performance.now() - began;
      await door.close();
      this.#tokens += door.spent;
      const { requests, promptTokens, generatedTokens } = door.use;
      this.#work.turns += requests;
      this.#work.promptTokens = add(this.#work.promptTokens, promptTokens);
      this.#work.generatedTokens = add(this.#work.generatedTokens, generatedTokens);
    }
  }

  /** The owner's files for the agent, as its home in the sandbox shows them. */
  async #files(work: string, fill: (text: string) => string): Promise<Mount[]> {
    const mounts: Mount[] = [];
    for (const [path, text] of Object.entries(this.#agent.files)) {
      const from = join(work, 'agent', path);
      await mkdir(dirname(from), { recursive: true });
      await writeFile(from, fill(text));
      mounts.push({ from, to: `${SANDBOX_HOME}/${path}`, writable: false });
    }
    return mounts;
  }
}

const mapValues = (
  record: Readonly<Record<string, string>>,
  map: (text: string) => string,
): Record<string, string> =>
  Object.fromEntries(Object.entries(record).map(([key, value]) => [key, map(value)]));

const add = (a: number | null, b: number | null): number | null => (a === null || b === null ? null : a + b);
