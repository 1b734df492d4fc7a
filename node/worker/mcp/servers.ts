import { mkdir } from 'node:fs/promises';
import { join } from 'node:path';
import type { Goal } from '../../attempt/goal.ts';
import { allowedHosts } from '../../environment/owner.ts';
import { type HttpProxy, startProxy } from '../../environment/proxy.ts';
import { proxyVariables, type SandboxRuntime } from '../../environment/runtime.ts';
import type { Mount } from '../../sandbox/types.ts';
import { whyCutOff } from '../network.ts';
import type { Persona } from '../persona.ts';
import type { Tool } from '../tools/tool.ts';
import { type Link, McpFault } from './link.ts';
import type { McpConfig, McpProgram } from './owner.ts';
import { ProgramLink } from './program.ts';
import { RemoteLink } from './remote.ts';
import { McpServer } from './server.ts';
import { offered, reachesOut } from './tools.ts';

const memoryBytesMax = 512 * 1024 * 1024;
const processesMax = 64;
/** Of what a server prints on stderr, in the log of the attempt. */
const logBytesMax = 16 * 1024;
/** A server that could not even be started says so in words of this length. */
const whyLengthMax = 600;

export interface McpServersOptions {
  servers: readonly McpConfig[];
  /** Asked for where a server may reach hosts. */
  runtime(): Promise<SandboxRuntime>;
  persona: Persona;
  /** What their definitions may take of a model's context, in characters. */
  charactersMax: number;
  /** What is left of the task's time, in ms. */
  remainingMs(): number;
}

/** The servers of one attempt that its owner allows, and their tools. */
export class McpServers {
  readonly tools: readonly Tool[];
  readonly #servers: readonly McpServer[];

  private constructor(tools: readonly Tool[], servers: readonly McpServer[]) {
    this.tools = tools;
    this.#servers = servers;
  }

  /**
   * Asks all of them for their tools, each in a sandbox that can write nothing; one that fails is left out, and the log says why. What they say of
   * their tools later is not looked at.
   */
  static async open(goal: Goal, options: McpServersOptions): Promise<McpServers> {
    const { log, signal } = goal.context;
    const cutOff = whyCutOff(goal);
    const tools: Tool[] = [];
    const servers: McpServer[] = [];
    const asked = options.servers.map(async (config) => {
      if (cutOff !== null && reachesOut(config)) return { config, failed: cutOff };
      const server = new McpServer(config.name, (why) => linkTo(goal, config, options, why === 'list'));
      try {
        return { config, server, listed: await server.list(signal) };
      } catch (error) {
        signal.throwIfAborted();
        return { config, failed: (error as Error).message.slice(0, whyLengthMax) };
      }
    });
    for (const found of await Promise.all(asked)) {
      const { name } = found.config;
      if ('failed' in found) {
        await log.say(`mcp: nothing of ${name}: ${found.failed}`);
        continue;
      }
      const spent = tools.reduce((sum, { definition }) => sum + JSON.stringify(definition).length, 0);
      const offer = offered(found.server, found.config, found.listed, options.charactersMax - spent);
      for (const left of offer.left) await log.say(`mcp: without a tool of ${name}, ${left}`);
      tools.push(...offer.tools);
      servers.push(found.server);
    }
    return new McpServers(tools, servers);
  }

  /** Nothing of them runs when it resolves; what is called later starts its server again. */
  async stop(): Promise<void> {
    await Promise.all(this.#servers.map((server) => server.stop()));
  }
}

async function linkTo(
  goal: Goal,
  config: McpConfig,
  options: McpServersOptions,
  listing: boolean,
): Promise<Link> {
  if ('url' in config) return new RemoteLink(config.url);
  return startProgram(goal, config, options, listing);
}

async function startProgram(
  { checkout, context, spec }: Goal,
  config: McpProgram,
  { persona, remainingMs, runtime }: McpServersOptions,
  listing: boolean,
): Promise<Link> {
  const { log, sandbox, signal, work } = context;
  const writes = persona.may.has('write') && !listing;
  const proxy = await proxyFor(config, join(work, `mcp-${config.name}`), (line) => log.say(line));
  const plain = { argv: config.argv, mounts: [] };
  try {
    const forwarded =
      proxy === null
        ? plain
        : (await runtime()).forwarded({ socket: proxy.socket, variables: proxyVariables }, config.argv);
    const started = sandbox.start(
      {
        argv: forwarded.argv,
        env: { ...OWN_MODULES, ...config.env, ...(proxy === null ? {} : PROXIED) },
        mounts: [
          // Who only reads finds the workspace read-only, whatever a server says of its tools.
          ...checkout.mounts.map((mount) => ({ ...mount, writable: mount.writable && writes })),
          ...forwarded.mounts,
          ...config.readOnly.map((path): Mount => ({ from: path, to: path, writable: false })),
        ],
        cwd: '/workspace',
        limits: {
          memoryBytes: Math.min(spec.limits.memoryBytes, memoryBytesMax),
          processes: Math.min(spec.limits.processes, processesMax),
          diskBytes: spec.limits.workspaceBytes,
          watchBytesIn: checkout.path,
          wallMs: Math.max(1, Math.ceil(remainingMs())),
        },
        stdin: 'pipe',
      },
      signal,
    );
    let room = logBytesMax;
    const link = new ProgramLink(started, (chunk) => {
      const kept = chunk.subarray(0, room);
      room -= kept.length;
      if (kept.length > 0) void log.write(kept);
    });
    if (proxy === null) return link;
    return {
      request: (method, params, stop) => link.request(method, params, stop),
      notify: (method) => link.notify(method),
      close: async () => {
        await link.close();
        await proxy.close();
      },
    };
  } catch (error) {
    await proxy?.close();
    throw new McpFault((error as Error).message, { gone: true, cause: error });
  }
}

/** Python does not look for modules where it stands: those of the workspace are a stranger's, and would see its variables. */
const OWN_MODULES = { PYTHONSAFEPATH: '1' };

/** Node's own `fetch` looks for a proxy only where it is told to. */
const PROXIED = { NODE_USE_ENV_PROXY: '1', no_proxy: 'localhost,127.0.0.1,::1' };

async function proxyFor(
  config: McpProgram,
  folder: string,
  say: (line: string) => Promise<void>,
): Promise<HttpProxy | null> {
  if (config.hosts.length === 0) return null;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  return startProxy({
    folder,
    allowed: allowedHosts(config),
    onEvent: (event) => {
      if (event.kind === 'refused') void say(`mcp: ${config.name}: ${event.refusal.sentence}`);
    },
  });
}
