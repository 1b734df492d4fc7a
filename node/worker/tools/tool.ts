import { z } from 'zod';
import type { Place } from '../../attempt/checkout.ts';
import type { StepLog } from '../../attempt/step.ts';
import type { ToolDefinition } from '../../brain/types.ts';
import type { Fetcher } from '../../environment/fetch.ts';
import type { Sandbox } from '../../sandbox/types.ts';
import type { Permission } from '../persona.ts';
import { bounded, escaped, resultCharactersMax } from './output.ts';
import type { WorkspaceFiles } from './workspace.ts';

/** What the tools of one attempt work on. */
export interface ToolContext {
  place: Place;
  files: WorkspaceFiles;
  sandbox: Sandbox;
  limits: { memoryBytes: number; processes: number; workspaceBytes: number };
  /** Of the task's commands; secrets come on top. */
  env: Readonly<Record<string, string>>;
  /** By name; their values are masked in all that a model is shown. */
  secrets: Readonly<Record<string, string>>;
  log: StepLog;
  /** This machine, as people name it. */
  member: string;
  /** What is left of the task's time, in ms. */
  remainingMs(): number;
  /** A text: why there is no network. */
  fetch: Fetcher | string;
}

/** How a model says that it will do nothing more, or can not. */
export type Ending =
  | { kind: 'finish'; summary: string; lowConfidence: boolean; note?: string }
  | {
      kind: 'signal';
      signal: 'clarification_needed' | 'low_confidence' | 'partial_completion' | 'task_rejection';
      text: string;
    };

/** What a model is given back. */
export interface ToolResult {
  content: string;
  /** The call did not do what it was to do; `content` says why. */
  failed: boolean;
  /** The path whose content it changed. */
  changed?: string;
  ending?: Ending;
}

export interface Tool {
  readonly name: string;
  readonly definition: ToolDefinition;
  readonly needs: Permission;
  /** What it needs besides. @default nothing */
  readonly and?: readonly Permission[];
  readonly parameters: z.ZodType;
  /**
   * Does it. What a model got wrong is an answer; it throws only where this machine fails, or the signal's reason once that is
   * aborted. Content is bounded, without controls, with secrets masked.
   */
  call(args: unknown, context: ToolContext, signal: AbortSignal): Promise<ToolResult>;
}

/** What the model asked cannot be done; the message is its answer: what was expected, what came. */
export class ToolFault extends Error {}

/** A tool from the one thing that differs: what it does with arguments that are of its form. */
export function defineTool<P extends z.ZodType>(of: {
  name: string;
  description: string;
  needs: Permission;
  and?: readonly Permission[];
  parameters: P;
  /** What a model is told of its parameters. @default what they are */
  schema?: Record<string, unknown>;
  run(args: z.output<P>, context: ToolContext, signal: AbortSignal): Promise<ToolResult>;
}): Tool {
  const { $schema: _, ...own } = z.toJSONSchema(of.parameters, { io: 'input' });
  const parameters = of.schema ?? own;
  const answer = async (args: unknown, context: ToolContext, signal: AbortSignal): Promise<ToolResult> => {
    const parsed = parse(of.parameters, args);
    if (!parsed.success)
      return { content: badArguments(of.name, parsed.error, args, parameters), failed: true };
    try {
      return await of.run(parsed.data, context, signal);
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof ToolFault) return { content: error.message, failed: true };
      throw error;
    }
  };
  return {
    name: of.name,
    definition: { name: of.name, description: of.description, parameters },
    needs: of.needs,
    and: of.and ?? [],
    parameters: of.parameters,
    call: async (args, context, signal) => {
      signal.throwIfAborted();
      const result = await answer(args, context, signal);
      const content = escaped(context.log.masked(result.content));
      return { ...result, content: bounded(content, resultCharactersMax, 'ask for less at once') };
    },
  };
}

/** Small models write null for what they leave out, and numbers as text: both are taken as meant. */
function parse<P extends z.ZodType>(schema: P, args: unknown): z.ZodSafeParseResult<z.output<P>> {
  if (typeof args !== 'object' || args === null || Array.isArray(args)) return schema.safeParse(args);
  const given = Object.fromEntries(Object.entries(args).filter(([, value]) => value !== null));
  const first = schema.safeParse(given);
  if (first.success) return first;
  for (const issue of first.error.issues) {
    const [key] = issue.path;
    if (issue.code !== 'invalid_type' || issue.path.length !== 1 || typeof key !== 'string') continue;
    const value = given[key];
    if (typeof value !== 'string') continue;
    if (/^(number|int)$/.test(issue.expected) && /^-?\d{1,15}$/.test(value)) given[key] = Number(value);
    if (issue.expected === 'boolean' && /^(true|false)$/i.test(value))
      given[key] = value.toLowerCase() === 'true';
  }
  return schema.safeParse(given);
}

const cameLengthMax = 120;

function badArguments(name: string, error: z.ZodError, args: unknown, schema: object): string {
  if (typeof args !== 'object' || args === null || Array.isArray(args)) {
    return `${name}: its arguments are not a JSON object. Expected one of this schema: ${JSON.stringify(schema)}`;
  }
  const lines = error.issues.slice(0, 8).map((issue) => {
    const [key] = issue.path;
    const value =
      typeof key === 'string' && Object.hasOwn(args, key)
        ? (args as Record<string, unknown>)[key]
        : undefined;
    const came = value === undefined ? '' : ` (got ${bounded(JSON.stringify(value), cameLengthMax, null)})`;
    return `- ${key === undefined ? '' : `${String(key)}: `}${issue.message}${came}`;
  });
  return `${name}: nothing was done, its arguments are not as expected.\n${lines.join('\n')}\nExpected: ${JSON.stringify(schema)}`;
}
