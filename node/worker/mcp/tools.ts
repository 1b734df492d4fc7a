import { z } from 'zod';
import type { Permission } from '../persona.ts';
import { asData, bounded, escaped } from '../tools/output.ts';
import { defineTool, type Tool, ToolFault } from '../tools/tool.ts';
import { McpFault } from './link.ts';
import type { McpConfig } from './owner.ts';
import type { CallResult, ListedTool, McpServer } from './server.ts';

/** As servers of models take names. */
const nameLengthMax = 64;
const descriptionLengthMax = 600;
const schemaLengthMax = 4_000;
const schemaDepthMax = 12;

/** Tools as a model may use them, and those that were left out, with why. */
export interface OfferedTools {
  tools: Tool[];
  left: string[];
}

/**
 * A server's tools under names of this program's making: those that the owner named with what they need, else all, where one that the server
 * does not clearly say only reads is taken to write. What it says about them is cut and escaped; together they take at most `charactersMax`.
 */
export function offered(
  server: McpServer,
  config: McpConfig,
  listed: readonly ListedTool[],
  charactersMax: number,
): OfferedTools {
  const tools: Tool[] = [];
  const left: string[] = [];
  const and: Permission[] = reachesOut(config) ? ['net'] : [];
  let characters = 0;
  for (const each of listed) {
    const named =
      config.tools === null ? null : Object.hasOwn(config.tools, each.name) && config.tools[each.name];
    if (named === false) continue;
    const needs = named ?? (each.annotations?.readOnlyHint === true ? 'read' : 'write');
    const tool = toolOf(server, each, needs ?? 'write', and);
    const why =
      typeof tool === 'string'
        ? tool
        : tools.some(({ name }) => name === tool.name)
          ? 'another has its name'
          : characters + JSON.stringify(tool.definition).length > charactersMax
            ? 'there are too many for what the model holds'
            : null;
    if (why !== null || typeof tool === 'string') {
      left.push(`${bounded(escaped(each.name), nameLengthMax, null)}: ${why}`);
      continue;
    }
    characters += JSON.stringify(tool.definition).length;
    tools.push(tool);
  }
  return { tools, left };
}

/** Can what it is told come to another machine, or to a program outside the sandbox? */
export const reachesOut = (config: McpConfig): boolean => 'url' in config || config.hosts.length > 0;

/** A text: why it cannot be shown to a model. */
function toolOf(
  server: McpServer,
  listed: ListedTool,
  needs: 'read' | 'write',
  and: readonly Permission[],
): Tool | string {
  const schema = plain(listed.inputSchema, 0);
  if (schema === undefined || (schema as { type?: unknown }).type !== 'object')
    return `its arguments are no object, or deeper than ${schemaDepthMax}`;
  if (JSON.stringify(schema).length > schemaLengthMax)
    return `its arguments take more than ${schemaLengthMax} characters`;
  const said = escaped((listed.description ?? '').replace(/\s+/g, ' ').trim());
  const name = `${server.name}__${listed.name.replace(/[^A-Za-z0-9_-]/g, '_')}`.slice(0, nameLengthMax);
  return defineTool({
    name,
    description: `A tool of the MCP server ${server.name}, which says of it: ${bounded(said || 'nothing', descriptionLengthMax, null)}`,
    needs,
    and,
    parameters: z.record(z.string(), z.unknown()),
    schema: schema as Record<string, unknown>,
    async run(args, { log, remainingMs }, signal) {
      await log.say(`${name}: called`);
      try {
        const result = await server.call(listed.name, args, remainingMs(), signal);
        const text = escaped(log.masked(textOf(result)));
        const content = asData(`what the MCP server ${server.name} answered`, text);
        return { content, failed: result.isError === true };
      } catch (error) {
        if (!(error instanceof McpFault)) throw error;
        const words = bounded(escaped(log.masked(error.message)), descriptionLengthMax, null);
        await log.say(`${name}: ${words}`);
        throw new ToolFault(asData(`why ${name} did not do it`, words));
      }
    },
  });
}

/** A schema whose texts hold no controls; undefined: it is too deep. */
function plain(value: unknown, depth: number): unknown {
  if (depth > schemaDepthMax) return undefined;
  if (typeof value === 'string') return escaped(value);
  if (typeof value !== 'object' || value === null) return value;
  const inner = (one: unknown): unknown => plain(one, depth + 1);
  if (Array.isArray(value)) {
    const items = value.map(inner);
    return items.includes(undefined) ? undefined : items;
  }
  const entries = Object.entries(value)
    .filter(([key]) => key !== '$schema')
    .map(([key, one]): [string, unknown] => [escaped(key), inner(one)]);
  return entries.some(([, one]) => one === undefined) ? undefined : Object.fromEntries(entries);
}

const part = z.union([
  z.looseObject({ type: z.literal('text'), text: z.string() }),
  z.looseObject({ type: z.enum(['image', 'audio']), data: z.string(), mimeType: z.string().max(128) }),
  z.looseObject({ type: z.literal('resource_link'), uri: z.string().max(2048) }),
  z.looseObject({ type: z.literal('resource'), resource: z.looseObject({ text: z.string() }) }),
]);

/** What a model can read of a result. */
function textOf({ content, structuredContent }: CallResult): string {
  const texts = content.map((one) => {
    const { data } = part.safeParse(one);
    switch (data?.type) {
      case 'text':
        return data.text;
      case 'resource':
        return data.resource.text;
      case 'resource_link':
        return data.uri;
      case 'image':
      case 'audio':
        return `(${data.mimeType}, ${data.data.length} characters of base64, not shown)`;
      default:
        return '(something that is no text)';
    }
  });
  if (texts.length > 0) return texts.join('\n');
  const structured = plain(structuredContent, 0);
  return structured === undefined ? '(it answered nothing)' : JSON.stringify(structured);
}
