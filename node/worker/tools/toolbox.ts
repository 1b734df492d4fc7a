import type { ToolCall, ToolDefinition } from '../../brain/types.ts';
import type { Permission, Persona } from '../persona.ts';
import { edit, write } from './edit.ts';
import { finish, signal as signalTool } from './endings.ts';
import { git } from './git.ts';
import { http } from './http.ts';
import { list } from './list.ts';
import { bounded, escaped } from './output.ts';
import { read } from './read.ts';
import { run } from './run.ts';
import { search } from './search.ts';
import type { Tool, ToolContext, ToolResult } from './tool.ts';

/** The tools of this program. */
export const TOOLS: readonly Tool[] = [list, read, search, edit, write, run, git, http, finish, signalTool];

export interface ToolOutcome extends ToolResult {
  /** The persona or the task does not have the right; nothing was done. */
  refused: boolean;
  /** How often this very call failed, this time included, since a call last changed anything; 0: it did not fail. */
  repeats: number;
}

export interface ToolboxOptions {
  persona: Persona;
  context: ToolContext;
  /** What the task allows, beside its persona. @default everything */
  allowed?: ReadonlySet<Permission>;
  /** @default TOOLS */
  tools?: readonly Tool[];
}

/** Characters of a model's own words that a log line or an answer repeats. */
const repeatedCharactersMax = 120;

/**
 * The tools of one attempt, for one persona. What it may not do is refused here, whatever the model was told of; of all that is
 * refused, one line is left in the log. Calls are done one after the other, so that no file is touched while a command runs.
 */
export class Toolbox {
  readonly #persona: Persona;
  readonly #context: ToolContext;
  readonly #allowed: ReadonlySet<Permission> | null;
  readonly #tools: ReadonlyMap<string, Tool>;
  readonly #failures = new Map<string, number>();
  readonly #changed = new Set<string>();
  #turn: Promise<unknown> = Promise.resolve();
  #calls = 0;
  #refused = 0;

  constructor({ persona, context, allowed, tools = TOOLS }: ToolboxOptions) {
    this.#persona = persona;
    this.#context = context;
    this.#allowed = allowed ?? null;
    this.#tools = new Map(tools.map((tool) => [tool.name, tool]));
    if (this.#tools.size !== tools.length) throw new Error('two tools have one name');
  }

  /** What a model is told of: what it may use, and what can do anything here. */
  get definitions(): ToolDefinition[] {
    return this.#usable().map(({ definition }) => definition);
  }

  #usable(): Tool[] {
    return [...this.#tools.values()].filter(
      (tool) =>
        this.#may(tool) &&
        !(tool === http && typeof this.#context.fetch === 'string') &&
        !(tool === git && this.#context.place.repository === null),
    );
  }

  #may(tool: Tool): boolean {
    return needsOf(tool).every((need) => this.#persona.may.has(need) && (this.#allowed?.has(need) ?? true));
  }

  /** Calls so far, refused and unknown ones too. */
  get calls(): number {
    return this.#calls;
  }

  get refused(): number {
    return this.#refused;
  }

  /** Paths that tools wrote, as the model named them. What counts is what git finds in the end. */
  get changed(): ReadonlySet<string> {
    return this.#changed;
  }

  /** Does what a model called for, after all calls before it. Throws as `Tool.call` does. */
  call(call: ToolCall, signal: AbortSignal): Promise<ToolOutcome> {
    const done = this.#turn.then(() => this.#call(call, signal));
    this.#turn = done.catch(() => {});
    return done;
  }

  async #call(call: ToolCall, signal: AbortSignal): Promise<ToolOutcome> {
    signal.throwIfAborted();
    this.#calls += 1;
    const tool = this.#tools.get(call.name);
    if (tool === undefined) return this.#counted(call, this.#unknown(call.name), false);
    if (!this.#may(tool)) return this.#counted(call, await this.#refuse(tool), true);
    const result = await tool.call(call.arguments, this.#context, signal);
    if (result.changed !== undefined) this.#changed.add(result.changed);
    // After a change the same test may well fail again, and says something new.
    const mayHaveChanged =
      result.changed !== undefined || (!result.failed && (tool.needs === 'run' || tool.needs === 'write'));
    if (mayHaveChanged) this.#failures.clear();
    return this.#counted(call, result, false);
  }

  #counted(call: ToolCall, result: ToolResult, refused: boolean): ToolOutcome {
    if (!result.failed) return { ...result, refused, repeats: 0 };
    const key = `${call.name}\0${call.arguments === null ? call.text : canonical(call.arguments)}`;
    const repeats = (this.#failures.get(key) ?? 0) + 1;
    this.#failures.set(key, repeats);
    return { ...result, refused, repeats };
  }

  #unknown(name: string): ToolResult {
    const shown = bounded(escaped(this.#context.log.masked(name)), repeatedCharactersMax, null);
    const names = this.#usable().map((tool) => tool.name);
    return {
      content: `there is no tool ${JSON.stringify(shown)}. There are: ${names.join(', ')}.`,
      failed: true,
    };
  }

  async #refuse(tool: Tool): Promise<ToolResult> {
    this.#refused += 1;
    const name = bounded(this.#persona.name, repeatedCharactersMax, null);
    const needs = needsOf(tool);
    const byPersona = !needs.every((need) => this.#persona.may.has(need));
    const who = byPersona ? `${name} reads only` : `this task does not allow to ${needs.join(' and ')}`;
    if (this.#refused === 1) {
      await this.#context.log.say(`${who}: ${tool.name} was not executed, nor is any later call like it`);
    }
    const content = `${tool.name} was not executed, nothing was changed: ${escaped(this.#context.log.masked(who))}.`;
    return { content, failed: true };
  }
}

const needsOf = ({ needs, and = [] }: Tool): Permission[] => [needs, ...and];

/** JSON with keys in order, so that the same arguments are the same text. */
function canonical(value: unknown): string {
  return JSON.stringify(value, (_, inner: unknown) =>
    typeof inner === 'object' && inner !== null && !Array.isArray(inner)
      ? Object.fromEntries(Object.entries(inner).sort(([a], [b]) => (a < b ? -1 : 1)))
      : inner,
  );
}
