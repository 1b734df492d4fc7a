import { z } from 'zod';
import { type Link, McpFault } from './link.ts';

/** Revisions of the protocol that are spoken; the newest is offered. */
const VERSIONS = ['2025-11-25', '2025-06-18', '2025-03-26', '2024-11-05'];
const HELLO = {
  protocolVersion: VERSIONS[0],
  capabilities: {},
  clientInfo: { name: 'superfleet', version: '1' },
};
/** From the start of a server to the end of its list. */
const listMs = 30_000;
const callMs = 120_000;
const pagesMax = 8;
/** Tools of one server that are looked at. */
export const toolsMax = 64;
/** A server that broke so often is left alone by this attempt. */
const faultsMax = 3;

const initialized = z.looseObject({ protocolVersion: z.string() });
const listed = z.looseObject({
  name: z.string().min(1).max(128),
  description: z.string().nullish(),
  inputSchema: z.unknown().optional(),
  annotations: z.looseObject({ readOnlyHint: z.unknown().optional() }).nullish().catch(null),
});
const list = z.looseObject({ tools: z.array(z.unknown()), nextCursor: z.string().max(4096).nullish() });
const called = z.looseObject({
  content: z.array(z.unknown()).default([]),
  structuredContent: z.unknown().optional(),
  isError: z.boolean().nullish(),
});

/** A tool as its server tells of it: foreign text, not yet bounded. */
export type ListedTool = z.output<typeof listed>;
/** What a call gave back. */
export type CallResult = z.output<typeof called>;

/**
 * One server, started when it is asked something. Whatever it does is an `McpFault`; what rejects besides is the reason of the signal,
 * or this machine's lack.
 */
export class McpServer {
  readonly name: string;
  readonly #open: (why: 'list' | 'call') => Promise<Link>;
  #link: Link | null = null;
  #faults = 0;

  /** `open` makes a way to it; for `list` to a server that can write nothing. */
  constructor(name: string, open: (why: 'list' | 'call') => Promise<Link>) {
    this.name = name;
    this.#open = open;
  }

  /** Its tools, those not of the form left out. It is stopped afterwards. */
  async list(signal: AbortSignal): Promise<ListedTool[]> {
    const limit = AbortSignal.timeout(listMs);
    const tools: ListedTool[] = [];
    try {
      const link = await this.#started('list', AbortSignal.any([signal, limit]));
      let cursor: string | null = null;
      for (let page = 0; page < pagesMax && tools.length < toolsMax; page += 1) {
        const params: object = cursor === null ? {} : { cursor };
        const answer = await link.request('tools/list', params, AbortSignal.any([signal, limit]));
        const found: z.output<typeof list> = parsed(list, answer);
        tools.push(...found.tools.flatMap((tool) => listed.safeParse(tool).data ?? []));
        cursor = found.nextCursor ?? null;
        if (cursor === null) break;
      }
      return tools.slice(0, toolsMax);
    } catch (error) {
      throw faultOf(error, signal, limit, listMs);
    } finally {
      await this.stop();
    }
  }

  async call(name: string, args: unknown, ms: number, signal: AbortSignal): Promise<CallResult> {
    if (this.#faults >= faultsMax)
      throw new McpFault(`it broke ${faultsMax} times, and is not asked any more`);
    const limitMs = Math.max(1, Math.min(callMs, Math.floor(ms)));
    const limit = AbortSignal.timeout(limitMs);
    const either = AbortSignal.any([signal, limit]);
    try {
      const link = await this.#started('call', either);
      return parsed(called, await link.request('tools/call', { name, arguments: args }, either));
    } catch (thrown) {
      const error = faultOf(thrown, signal, limit, limitMs);
      if (!(error instanceof McpFault) || error.gone) {
        this.#faults += 1;
        await this.stop();
      }
      throw error;
    }
  }

  /** Resolves when nothing of it runs any more. */
  async stop(): Promise<void> {
    const link = this.#link;
    this.#link = null;
    await link?.close();
  }

  async #started(why: 'list' | 'call', signal: AbortSignal): Promise<Link> {
    if (this.#link !== null) return this.#link;
    const link = await this.#open(why);
    this.#link = link;
    try {
      const { protocolVersion } = parsed(initialized, await link.request('initialize', HELLO, signal));
      if (!VERSIONS.includes(protocolVersion)) {
        const words = `it speaks revision ${protocolVersion.slice(0, 32)}, expected ${VERSIONS.join(', ')}`;
        throw new McpFault(words, { gone: true });
      }
      await link.notify('notifications/initialized', signal);
    } catch (error) {
      await this.stop();
      throw error;
    }
    return link;
  }
}

function parsed<T extends z.ZodType>(schema: T, value: unknown): z.output<T> {
  const result = schema.safeParse(value);
  if (result.success) return result.data;
  throw new McpFault(`its answer is not of the form: ${result.error.issues[0]?.message}`, { gone: true });
}

function faultOf(error: unknown, signal: AbortSignal, limit: AbortSignal, ms: number): unknown {
  if (signal.aborted) return signal.reason;
  if (error === limit.reason) return new McpFault(`it did not answer within ${ms} ms`, { gone: true });
  return error;
}
