import { z } from 'zod';
import { absolutePath } from '../../absolute-path.ts';
import { hostsConfig } from '../../environment/owner.ts';

const named = {
  /** Stands before the names of its tools. */
  name: z.string().regex(/^[a-z][a-z0-9-]{0,15}$/, 'a name such as docs: at most 16 of a-z, 0-9 and -'),
  /** The tools of it that may be used, by name, and who may: `read` all personas, `write` those that write. @default null: all; readers those that the server says only read */
  tools: z
    .record(z.string().min(1).max(128), z.enum(['read', 'write'], '"read" or "write"'))
    .nullable()
    .default(null),
};

const program = z.strictObject({
  ...named,
  /** Run in the sandbox of the task, its first word looked up there. */
  argv: z.array(z.string().max(8192)).min(1).max(64),
  /** Its own; no step of a task sees it. @default {} */
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().max(8192)).default({}),
  /** Files and folders outside /usr that it needs, at the same paths in the sandbox. @default [] */
  readOnly: z.array(absolutePath).max(16).default([]),
  /** Hosts that it may reach, by a proxy. @default []: no network */
  hosts: hostsConfig,
});

const remote = z.strictObject({
  ...named,
  /** Of this machine or the LAN, spoken to by Streamable HTTP. */
  url: z
    .string()
    .max(512)
    .refine((text) => {
      const url = URL.parse(text);
      return url !== null && /^https?:$/.test(url.protocol) && url.username + url.password + url.hash === '';
    }, 'an address such as http://127.0.0.1:8080/mcp, without a password'),
});

export type McpProgram = z.output<typeof program>;
export type McpRemote = z.output<typeof remote>;
export type McpConfig = McpProgram | McpRemote;

/** Servers of the Model Context Protocol whose tools models may use on this machine: `mcp` of `config.json`. */
export const mcpConfig = z
  .array(
    z.union(
      [program, remote],
      '{"name", "argv": [program …]} or {"name", "url": "http://127.0.0.1:8080/mcp"}, with tools, and for a program env, readOnly and hosts',
    ),
  )
  .max(8)
  .default([]);
