import { readFile } from 'node:fs/promises';
import { z } from 'zod';
import { formatDuration, parseDuration } from '../protocol/duration.ts';
import { SuperfleetError } from '../protocol/errors.ts';
import { labels, memberName, meshId, ownerName, peerId } from '../protocol/ids.ts';
import {
  brainPattern,
  cpuWeightMax,
  elasticSlotsMax,
  evictMs,
  graceMs,
  heartbeatIdleMs,
  heartbeatMs,
  leaseMs,
} from '../protocol/limits.ts';
import { knownPolicy } from '../protocol/policy-schema.ts';
import { parseSize } from '../protocol/size.ts';
import { absolutePath } from './absolute-path.ts';
import { writeFileAtomic } from './atomic-file.ts';
import { environmentConfig } from './environment/owner.ts';
import { mcpConfig } from './worker/mcp/owner.ts';

/** The founder's inbound port where nothing else is said: fixed, so that a person can open it in a firewall. */
export const defaultPort = 4701;
/** Of the endpoint for models; Ollama's own is 11434, which it may have here. */
const endpointPort = 4711;
/** A config file larger than this is none. */
const configBytesMax = 64 * 1024;
const addressesMax = 32;

const multiaddrText = z
  .string()
  .regex(/^(\/[A-Za-z0-9]+\/[^/\s]+)+$/, 'a multiaddr such as /ip4/192.168.1.5/tcp/4701');
const hostAddress = z
  .string()
  .regex(/^[0-9A-Fa-f:.]{2,45}$/, 'an IP address such as 0.0.0.0, 192.168.1.5 or ::');

/** A duration such as `30s`, from `min` to `max`, both included. */
const between = (min: number, max: number) =>
  z.string().refine(
    (text) => {
      try {
        const ms = parseDuration(text);
        return ms >= min && ms <= max;
      } catch {
        return false;
      }
    },
    `a duration from ${formatDuration(min)} to ${formatDuration(max)}, such as ${formatDuration(max)}`,
  );

/** Shorter, and a moment's load on the founder's machine would look like the loss of all members. */
const leaseMsMin = 2_000;
const leaseMsMax = 10 * 60_000;

/** A suspended attempt keeps its lease: longer, and nobody would wait for what it is of. */
const evictMsMax = 10 * 60_000;

const scrubBytesMax = 1024 ** 3;

const memoryShare = z
  .string()
  .regex(/^([1-9]\d?|100)%$/, 'a share of the memory from 1% to 100%, such as 50%');

const homePath = z
  .string()
  .max(256)
  .regex(/^[A-Za-z0-9._-]+(\/[A-Za-z0-9._-]+)*$/, 'a path in the home folder, such as .config/agent.json')
  .refine(
    (path) => !path.split('/').some((name) => name === '.' || name === '..'),
    'a path without . and ..',
  );

/** A coding agent that the owner has installed. In its texts `{goal}`, `{model}` and `{url}` (of its model) are filled in. */
const agent = z.strictObject({
  /** What `--brain` names. */
  name: z.string().regex(brainPattern, 'a name such as opencode'),
  argv: z.array(z.string().max(8192)).min(1).max(64),
  env: z.record(z.string().regex(/^[A-Za-z_][A-Za-z0-9_]*$/), z.string().max(8192)).default({}),
  /** Files and folders outside /usr that it needs, at the same paths in the sandbox. */
  readOnly: z.array(absolutePath).max(16).default([]),
  /** Text by path in its home folder. */
  files: z.record(homePath, z.string().max(16_384)).default({}),
  /** The model it is given. @default null: the one that a goal of this machine would be */
  model: z.string().min(1).max(128).nullable().default(null),
});
export type AgentConfig = z.infer<typeof agent>;

/** A provider of models outside the owner's network, with OpenAI's chat completions. */
const cloud = z.strictObject({
  /** How logs and receipts name it. */
  name: z.string().regex(brainPattern, 'a name such as provider'),
  /** Before `/v1`. */
  url: z
    .string()
    .max(512)
    .regex(
      /^(https:\/\/[^\s/?#@]+|http:\/\/(127\.0\.0\.1|localhost|\[::1\])(:\d+)?)(\/[^\s?#]*)?$/,
      'an address such as https://api.example.org; http only for this machine itself, since a key goes there',
    ),
  models: z
    .array(
      z.strictObject({
        name: z.string().regex(/^[^\p{C}\s]{1,128}$/u, 'the name of a model'),
        /** Prompt and answer together. */
        contextTokens: z
          .int()
          .min(4096)
          .max(2 ** 24),
        /** It calls tools. @default true */
        tools: z.boolean().default(true),
      }),
    )
    .min(1)
    .max(16),
  /** Holds its key, readable by the account of this program alone. @default null: it asks for none */
  keyFile: absolutePath.nullable().default(null),
  /** How it calls the bound of an answer. @default "max_tokens" */
  maxTokensField: z.enum(['max_tokens', 'max_completion_tokens']).default('max_tokens'),
});
export type CloudConfig = z.infer<typeof cloud>;

/** `config.json` of a data folder. Every field may be left out; an unknown one is an error. */
const schema = z.strictObject({
  /** Which daemon the folder is of. @default null: not yet made or joined */
  kind: z.enum(['hub', 'node']).nullable().default(null),
  /** Unique in a mesh. @default null: the host's name */
  name: memberName.nullable().default(null),
  /** Whose machine this is. @default null: the name of the user who runs it */
  owner: ownerName.nullable().default(null),
  /** Inbound TCP port; 0: any free one. @default 4701 for a hub, 0 for a node */
  port: z.int().min(0).max(65_535).nullable().default(null),
  /** IP addresses to listen on. @default ["0.0.0.0"] */
  listen: z.array(hostAddress).min(1).max(addressesMax).default(['0.0.0.0']),
  /** Find and be found by mDNS. @default true */
  mdns: z.boolean().default(true),
  /** Attempts at one time; 0: take no work. @default null: one at a screen, else by processors and memory */
  slots: z.int().min(0).max(elasticSlotsMax).nullable().default(null),
  /** What tasks may ask for by label. @default {} */
  labels: labels.default({}),
  /** When it works: `always`, `idle`, `hours=18:00-08:00`, several by comma. @default null: `idle` where there is a screen */
  policy: knownPolicy.nullable().default(null),
  /** What is suspended because the owner is there is ended after so long; "0s": at once. @default "1m" */
  evictAfter: between(0, evictMsMax).default(formatDuration(evictMs)),
  /** The machine may be kept from going to sleep while it works for the mesh. @default false */
  inhibitSleep: z.boolean().default(false),
  /** What tasks get of the processor where the owner's programs want it too; 100: as much as one of those. @default 100 */
  cpuWeight: z.int().min(1).max(cpuWeightMax).default(100),
  /** What all tasks together may have of the machine's memory, such as "50%". @default null: all of it */
  memoryShare: memoryShare.nullable().default(null),
  /** Addresses of model servers elsewhere on the LAN whose models this machine lends. @default [] */
  models: z.array(z.string().max(512)).max(16).default([]),
  /** Members without a model may ask those of this machine. @default true */
  infer: z.boolean().default(true),
  /** One address on 127.0.0.1 for the models of this machine and its mesh; `mesh-node endpoint` writes it. @default off */
  endpoint: z
    .strictObject({
      on: z.boolean().default(false),
      /** 0: any free one at each start. */
      port: z.int().min(0).max(65_535).default(endpointPort),
      /** Asked of every request; null: none. */
      token: z
        .string()
        .regex(/^[\x21-\x7e]{16,512}$/, 'a token of 16 to 512 characters without spaces')
        .nullable()
        .default(null),
    })
    .default({ on: false, port: endpointPort, token: null }),
  /** Coding agents of this machine that goals may be given to. @default [] */
  agents: z.array(agent).max(8).default([]),
  /** Servers whose tools models may use here. @default [] */
  mcp: mcpConfig,
  /** Providers outside this network that goals may ask which say so, within a budget of money. @default []: none */
  cloud: z.array(cloud).max(4).default([]),
  /** What the owner allows while what repositories depend on is prepared. @default no network, nothing shown */
  environment: environmentConfig.default({ hosts: [], readOnly: [] }),
  /** Account to drop to when started as root. @default null: `superfleet`, else a fixed unprivileged uid */
  user: z
    .string()
    .regex(/^[A-Za-z0-9_][A-Za-z0-9_.-]{0,31}$/, 'an account name or a uid')
    .nullable()
    .default(null),
  /** Mesh this node belongs to. @default null: none yet */
  mesh: meshId.nullable().default(null),
  /** The founder as it was last known; addresses are tried in order, then mDNS. @default null */
  founder: z
    .strictObject({ peer: peerId, addresses: z.array(multiaddrText).max(addressesMax) })
    .nullable()
    .default(null),
  /** Hub: a working member says that it is alive this often; an idle one no more often than every 15 s. @default "5s" */
  heartbeat: between(100, heartbeatIdleMs).default(formatDuration(heartbeatMs)),
  /** Hub: after so long without a word from its member an attempt is lost; two heartbeats at least. @default "15s" */
  lease: between(leaseMsMin, leaseMsMax).default(formatDuration(leaseMs)),
  /** Hub: a member whose connection closed has so long to come back before its attempts are lost. @default "2s" */
  grace: between(0, leaseMsMax).default(formatDuration(graceMs)),
  /** Hub: bytes a second at which the log is read anew in the background, once a day; `0B`: never. @default "4MiB" */
  scrub: z
    .string()
    .refine((text) => {
      try {
        return parseSize(text) <= scrubBytesMax;
      } catch {
        return false;
      }
    }, 'bytes a second from 0B to 1GiB, such as 4MiB')
    .default('4MiB'),
  /** Hub: a plugin that is `false` here is switched off, such as `{"memory": false}`. @default {} */
  plugins: z.record(z.string().regex(/^[a-z][a-z-]{0,31}$/, 'the name of a plugin'), z.boolean()).default({}),
  /** Hub: segments of the log that a start no longer reads are compressed. @default true */
  compressSegments: z.boolean().default(true),
  /** Least level of the program's log on stderr. @default "info" */
  logLevel: z.enum(['debug', 'info', 'warn', 'error']).default('info'),
});

/** What a data folder is set to, defaults filled in. */
export type Config = z.infer<typeof schema>;
/** What a person writes or a command changes: any of the fields. */
export type ConfigInput = z.input<typeof schema>;

/** Checks a whole config, fields together included. Throws `SF_USAGE` naming the field, what was expected and what came. */
export function checkConfig(value: unknown, from = 'the configuration'): Config {
  const parsed = schema.safeParse(value);
  if (!parsed.success) throw badField(from, parsed.error.issues[0]!, value);
  const config = parsed.data;
  const faults: [boolean, string, string, string][] = [
    [
      config.kind === 'hub' && config.founder !== null,
      'founder',
      'no founder for a hub, which is the founder',
      JSON.stringify(config.founder),
    ],
    [
      config.kind === 'node' && (config.mesh === null) !== (config.founder === null),
      config.mesh === null ? 'mesh' : 'founder',
      'both mesh and founder for a node that has joined, or neither',
      'null',
    ],
    [
      parseDuration(config.lease) < 2 * parseDuration(config.heartbeat),
      'lease',
      `at least two heartbeats (${config.heartbeat})`,
      config.lease,
    ],
    [
      parseDuration(config.grace) > parseDuration(config.lease),
      'grace',
      `no more than a lease (${config.lease})`,
      config.grace,
    ],
    [
      new Set(config.mcp.map(({ name }) => name)).size !== config.mcp.length,
      'mcp',
      'servers of different names',
      JSON.stringify(config.mcp.map(({ name }) => name)),
    ],
    [
      new Set(config.listen).size !== config.listen.length,
      'listen',
      'each address once',
      JSON.stringify(config.listen),
    ],
  ];
  const fault = faults.find(([holds]) => holds);
  if (fault !== undefined) throw usage(from, fault[1], fault[2], fault[3]);
  return config;
}

/** The folder's config; all defaults where there is no file. Throws `SF_USAGE` where it is not of the form. */
export async function readConfig(path: string): Promise<Config> {
  let text: string;
  try {
    text = await readFile(path, 'utf8');
  } catch (error) {
    if ((error as NodeJS.ErrnoException).code === 'ENOENT') return checkConfig({}, path);
    throw new SuperfleetError('SF_FOLDER', `cannot read ${path}: ${(error as Error).message}`, {
      cause: error,
    });
  }
  if (text.length > configBytesMax)
    throw usage(path, '', `at most ${configBytesMax} characters`, `${text.length}`);
  let value: unknown;
  try {
    value = JSON.parse(text);
  } catch (error) {
    throw usage(path, '', 'one JSON object', (error as Error).message);
  }
  return checkConfig(value, path);
}

/** Checks and writes the whole config, or leaves the old one as it is. */
export async function writeConfig(path: string, config: ConfigInput): Promise<Config> {
  const checked = checkConfig(config);
  await writeFileAtomic(path, `${JSON.stringify(checked, null, 2)}\n`);
  return checked;
}

/** Changed fields, or how they follow from what is there. */
export type ConfigChange = Partial<Config> | ((config: Config) => Partial<Config>);

/** The config of a folder in use. Changes are made one after the other, each to what the one before has left. */
export class ConfigFile {
  readonly #path: string;
  #config: Config;
  #last: Promise<void> = Promise.resolve();

  constructor(path: string, config: Config) {
    this.#path = path;
    this.#config = config;
  }

  get config(): Config {
    return this.#config;
  }

  /** Resolves when it is written. Rejects as `writeConfig` does, or with what `change` throws, and nothing is changed then. */
  change(change: ConfigChange): Promise<void> {
    const done = this.#last.then(async () => {
      const fields = typeof change === 'function' ? change(this.#config) : change;
      this.#config = await writeConfig(this.#path, { ...this.#config, ...fields });
    });
    this.#last = done.catch(() => {});
    return done;
  }
}

function badField(from: string, issue: z.core.$ZodIssue, value: unknown): SuperfleetError {
  const unknown = issue.code === 'unrecognized_keys' ? issue.keys[0]! : null;
  const path = [...issue.path, ...(unknown === null ? [] : [unknown])];
  let got: unknown = value;
  for (const step of path) got = (got as Record<PropertyKey, unknown> | null | undefined)?.[step];
  const expected = unknown === null ? issue.message : `one of ${Object.keys(schema.shape).join(', ')}`;
  return usage(from, path.join('.'), expected, JSON.stringify(got) ?? 'nothing');
}

function usage(from: string, field: string, expected: string, got: string): SuperfleetError {
  const shown = got.slice(0, 200);
  const where = field === '' ? from : `${from}: ${field}`;
  return new SuperfleetError('SF_USAGE', `${where}: expected ${expected}, got ${shown}`, {
    expected: field === '' ? expected : `${field}: ${expected}`,
    got: shown,
    hint: 'mend or remove the field; every field has a default',
  });
}
