import { cpuWeightMax } from '../../protocol/limits.ts';
import type { EndpointWish } from '../api/objects.ts';
import type { CommonCommand } from './common.ts';
import { addCompletionGrammar } from './completion-grammar.ts';
import { addDoctorGrammar } from './doctor-grammar.ts';
import { type Closing, exitCodesText } from './help.ts';
import { addMemoryGrammar } from './memory-grammar.ts';
import { Grammar, type Parsed } from './parse.ts';
import { addPolicyGrammar, type PolicyCommand } from './policy-grammar.ts';
import { addProofGrammar } from './proof-grammar.ts';
import { addServiceGrammar, type ServiceCommand } from './service-grammar.ts';
import { addTaskGrammar } from './task-grammar.ts';
import { usageError } from './usage-errors.ts';
import * as v from './values.ts';

/** What start-like commands of both bins are told. */
export interface StartWishes {
  name: string | null;
  port: number | null;
  user: string | null;
  detach: boolean;
  logLevel: 'debug' | 'info' | 'warn' | 'error' | null;
  /** null: text on a terminal, JSON elsewhere and under --json. */
  logFormat: 'text' | 'json' | null;
}

export type NodeCommand =
  | ({
      verb: 'join';
      token: string | null;
      founder: string | null;
      mesh: string | null;
      owner: string | null;
      slots: number | null;
      labels: Record<string, string>;
      policy: string | null;
      inhibitSleep: boolean;
      cpuWeight: number | null;
      memoryShare: string | null;
      /** Ask this person nothing. */
      yes: boolean;
      /** false: enrol only. */
      start: boolean;
      /** Have this machine's service manager run it. */
      service: boolean;
    } & StartWishes)
  | ({
      verb: 'start';
      founder: string | null;
      slots: number | null;
      labels: Record<string, string>;
      policy: string | null;
      inhibitSleep: boolean;
      cpuWeight: number | null;
      memoryShare: string | null;
    } & StartWishes)
  | { verb: 'status' }
  | { verb: 'mesh' }
  | { verb: 'leave' }
  | { verb: 'pause'; ms: number | null }
  | { verb: 'resume' }
  | { verb: 'models all' }
  | { verb: 'models list' }
  | { verb: 'models add'; url: string }
  | { verb: 'models remove'; url: string }
  | { verb: 'endpoint'; wish: EndpointWish | null }
  | PolicyCommand
  | ServiceCommand
  | CommonCommand;

const LEVELS = ['debug', 'info', 'warn', 'error'] as const;
const FORMATS = ['text', 'json'] as const;
/** How long `stop` waits for the process to be gone. */
const stopMs = 60_000;

/** Options of every command that brings a process up. */
export const startOptions = () => [
  v.option('--name <name>', 'name in the mesh, unique there (default: host name)', v.nodeName('--name')),
  v.option('--port <n>', 'inbound TCP port; 0: any free one', v.port),
  v.option('--user <account>', 'started as root: the account to run as', v.nodeName('--user')),
  v.option('--detach', 'go to the background; return when ready'),
  v.option('--log-level <level>', `${LEVELS.join(', ')} (default: info)`, v.oneOf('--log-level', LEVELS)),
  v.option(
    '--log-format <format>',
    'text or json (default: text on a terminal, else json)',
    v.oneOf('--log-format', FORMATS),
  ),
];

export const stopOption = () =>
  v.option('--timeout <duration>', 'give up waiting after this (default: 60s)', v.duration('--timeout'));

export const readStart = (options: Record<string, unknown>): StartWishes => ({
  name: (options.name as string | undefined) ?? null,
  port: (options.port as number | undefined) ?? null,
  user: (options.user as string | undefined) ?? null,
  detach: options.detach === true,
  logLevel: (options.logLevel as StartWishes['logLevel'] | undefined) ?? null,
  logFormat: (options.logFormat as StartWishes['logFormat'] | undefined) ?? null,
});

export const readStop = (options: Record<string, unknown>): { verb: 'stop'; timeoutMs: number } => ({
  verb: 'stop',
  timeoutMs: (options.timeout as number | undefined) ?? stopMs,
});

const CLOSING: Closing = {
  sections: [
    {
      title: 'Give this machine to a mesh:',
      rows: [
        ['mesh-node doctor', 'can it work? and if not, what to do'],
        [
          'mesh-node join TOKEN --detach',
          'TOKEN from "mesh-hub invite"; without one both screens show a code',
        ],
        ['mesh-node pause 2h', 'you need your machine: everything stops at once'],
      ],
    },
  ],
  text: exitCodesText('mesh-node'),
};

/** Who starts the machine once it has joined. */
function readKeeping(options: Record<string, unknown>): { start: boolean; service: boolean } {
  const keeping = { start: options.start !== false, service: options.service === true };
  if (keeping.start || !keeping.service) return keeping;
  throw usageError('--service and --no-start exclude each other', {
    expected: 'one of them',
    got: 'both',
  });
}

/** The grammar of `mesh-node`. */
export function nodeGrammar(version: string): Grammar<NodeCommand> {
  const grammar = new Grammar<NodeCommand>('mesh-node', version, 'Gives this machine to a mesh.', CLOSING, {
    bin: 'mesh-hub',
    words: [
      'init',
      'invite',
      'demo',
      'backup',
      'budget',
      'trust',
      'restore',
      'fork',
      ...['approve', 'reject', 'drain', 'eligible', 'trust', 'rename', 'revoke'].map(
        (verb) => `node ${verb}`,
      ),
      'secret',
      'failures',
      'handover',
      'capacity',
      'policy default',
      'durability',
      'promote',
      ...['verify', 'tail', 'export', 'scrub', 'import', 'repair'].map((verb) => `ledger ${verb}`),
    ],
    where: 'on the machine of the founder',
  });
  const founderOption = () =>
    v.option(
      '--founder <address>',
      'where the founder is, when it is not found by itself',
      v.text('--founder'),
    );
  const workOptions = () => [
    founderOption(),
    v.option(
      '--slots <n>',
      'tasks at one time (default: 1 where somebody sits at a screen, else by processors and memory)',
      v.integer('--slots', 0, 1024),
    ),
    v.option('--label <k=v>', 'a label tasks may ask for; repeatable', v.label),
    v.option(
      '--policy <policy>',
      'when it works: always, idle, hours=18:00-08:00@mon-fri, on-mains, load=50%; several by comma, all must hold ' +
        '(default: idle where somebody sits at a screen, else always)',
      v.policy,
    ),
    v.option('--inhibit-sleep', 'keep the machine from going to sleep while it works for the mesh'),
    v.option(
      '--cpu-weight <n>',
      'what tasks get of the processors where other programs want them too: 1 to 10000 (100: as much as one of those)',
      v.integer('--cpu-weight', 1, cpuWeightMax),
    ),
    v.option('--memory-share <percent>', 'what all tasks together may have of the memory: 50%', v.share),
  ];
  const readWork = (options: Record<string, unknown>) => ({
    founder: (options.founder as string | undefined) ?? null,
    slots: (options.slots as number | undefined) ?? null,
    labels: (options.label as Record<string, string> | undefined) ?? {},
    policy: (options.policy as string | undefined) ?? null,
    inhibitSleep: options.inhibitSleep === true,
    cpuWeight: (options.cpuWeight as number | undefined) ?? null,
    memoryShare: (options.memoryShare as string | undefined) ?? null,
  });

  grammar.leaf(null, {
    usage: 'join [token]',
    summary:
      'join a mesh, then work for it. Without a token it asks: the operator approves the code on both screens',
    options: [
      ...startOptions(),
      ...workOptions(),
      v.option('--mesh <id>', 'which mesh, where several are found', v.mesh),
      v.option('--owner <name>', 'whose machine it is', v.owner),
      v.option('-y, --yes', 'ask nothing on this terminal'),
      v.option('--service', 'start it now and at every boot, as "service install" does'),
      v.option('--no-start', 'enrol, and leave starting to something else'),
    ],
    examples: [
      'mesh-node join TOKEN --detach',
      'sudo mesh-node join TOKEN --yes --service',
      'mesh-node join',
      'mesh-node join --founder 192.168.1.10',
    ],
    read: ({ operands, options }) => ({
      verb: 'join',
      token:
        operands[0] === undefined
          ? null
          : v.matching('the token', /^[^\0]{1,8192}$/, 'a token of "mesh-hub invite"')(operands[0]),
      mesh: (options.mesh as string | undefined) ?? null,
      owner: (options.owner as string | undefined) ?? null,
      yes: options.yes === true,
      ...readKeeping(options),
      ...readWork(options),
      ...readStart(options),
    }),
  });
  grammar.leaf(null, {
    usage: 'start',
    summary: 'work for the mesh this machine has joined',
    options: [...startOptions(), ...workOptions()],
    examples: ['mesh-node start --detach'],
    read: ({ options }) => ({ verb: 'start', ...readWork(options), ...readStart(options) }),
  });
  grammar.leaf(null, {
    usage: 'stop',
    summary: 'stop; returns when the process is gone',
    options: [stopOption()],
    examples: ['mesh-node stop'],
    read: ({ options }) => readStop(options),
  });
  grammar.leaf(null, {
    usage: 'status',
    summary: 'what this machine is and does',
    examples: ['mesh-node status'],
    read: () => ({ verb: 'status' }),
  });
  grammar.leaf(null, {
    usage: 'mesh',
    summary: 'the mesh this machine is in; a replica answers from its copy where the founder does not',
    examples: ['mesh-node mesh'],
    read: () => ({ verb: 'mesh' }),
  });
  grammar.leaf(null, {
    usage: 'pause [duration]',
    summary: 'stop all tasks here now and take none; without a duration until "resume"',
    examples: ['mesh-node pause 2h'],
    read: ({ operands }) => ({
      verb: 'pause',
      ms: operands[0] === undefined ? null : v.duration('the duration')(operands[0]),
    }),
  });
  grammar.leaf(null, {
    usage: 'resume',
    summary: 'take tasks again',
    examples: ['mesh-node resume'],
    read: () => ({ verb: 'resume' }),
  });
  grammar.leaf(null, {
    usage: 'leave',
    summary: 'end the membership for good, and stop',
    examples: ['mesh-node leave'],
    read: () => ({ verb: 'leave' }),
  });
  addDoctorGrammar(grammar, 'mesh-node');
  addServiceGrammar(grammar, 'mesh-node');
  addMachinesGrammar(grammar);
  addModelsGrammar(grammar);
  addEndpointGrammar(grammar);
  addPolicyGrammar(grammar);
  addTaskGrammar(grammar, 'mesh-node');
  addMemoryGrammar(grammar, 'mesh-node');
  grammar.group('ledger', 'proofs from the log of the mesh');
  addProofGrammar(grammar, 'mesh-node');
  addCompletionGrammar(grammar, 'mesh-node');
  return grammar;
}

function addMachinesGrammar(grammar: Grammar<NodeCommand>): void {
  grammar.group('node', 'the machines of the mesh, to be looked at');
  grammar.leaf('node', {
    usage: 'list',
    summary: 'all machines of the mesh',
    examples: ['mesh-node node list'],
    read: () => ({ verb: 'node list' }),
  });
  grammar.leaf('node', {
    usage: 'describe <node>',
    summary: 'one machine: what it offers and what it does',
    examples: ['mesh-node node describe laptop-3'],
    read: ({ operands }) => ({
      verb: 'node describe',
      node: v.nodeName('the node')(operands[0] ?? ''),
    }),
  });
}

function addModelsGrammar(grammar: Grammar<NodeCommand>): void {
  const urlOf = (operands: string[]): string =>
    v.matching(
      'the address',
      /^[\x21-\x7e]{1,512}$/,
      'an address such as http://192.168.1.7:11434',
    )(operands[0] ?? '');
  grammar.group('models', 'the models of this machine and of its mesh');
  grammar.leaf('models', {
    usage: 'all',
    isDefault: true,
    summary:
      'every model that can be asked from here, whose machine reads the prompt, and how fast it is; models alone is the same',
    examples: ['mesh-node models all'],
    read: () => ({ verb: 'models all' }),
  });
  grammar.leaf('models', {
    usage: 'list',
    summary: 'model servers found on this machine and lent from elsewhere, with their models',
    examples: ['mesh-node models list'],
    read: () => ({ verb: 'models list' }),
  });
  grammar.leaf('models', {
    usage: 'add <url>',
    summary: 'lend a model server elsewhere on the LAN (Ollama, or OpenAI-compatible)',
    examples: ['mesh-node models add http://192.168.1.7:11434'],
    read: ({ operands }) => ({ verb: 'models add', url: urlOf(operands) }),
  });
  grammar.leaf('models', {
    usage: 'remove <url>',
    summary: 'lend it no longer',
    examples: ['mesh-node models remove http://192.168.1.7:11434'],
    read: ({ operands }) => ({ verb: 'models remove', url: urlOf(operands) }),
  });
}

function addEndpointGrammar(grammar: Grammar<NodeCommand>): void {
  grammar.leaf(null, {
    usage: 'endpoint [state]',
    summary: 'one address on this machine for all models of the mesh, as Ollama and OpenAI speak',
    about:
      'One address on 127.0.0.1 for all models of the mesh, for programs that speak Ollama’s API or OpenAI’s. ' +
      'Alone it says the address, the token and the models; "on" and "off" switch it, for good.',
    operands: { state: ['on', 'off'] },
    options: [
      v.option('--port <n>', 'with "on": its TCP port (default: 4711); 0: any free one', v.port),
      v.option('--token', 'with "on": make a new token, which each request has to name'),
      v.option('--no-token', 'with "on": ask for none'),
    ],
    examples: ['mesh-node endpoint', 'mesh-node endpoint on', 'mesh-node endpoint on --port 4712 --token'],
    read: ({ operands, options }) => {
      const port = options.port as number | undefined;
      const token = options.token as boolean | undefined;
      const state = operands[0] === undefined ? null : v.oneOf('the state', ['on', 'off'])(operands[0]);
      if (state !== 'on' && (port !== undefined || token !== undefined)) {
        throw usageError('--port and --token are of an endpoint that is on', {
          expected: 'endpoint on',
          got: state === null ? 'no state' : state,
          hint: 'mesh-node endpoint on --port N',
        });
      }
      return { verb: 'endpoint', wish: state === null ? null : { on: state === 'on', port, token } };
    },
  });
}

/** What a `mesh-node` command line means; pure. */
export function parseNode(args: readonly string[], version: string, columns?: number): Parsed<NodeCommand> {
  return nodeGrammar(version).parse(args, columns);
}
