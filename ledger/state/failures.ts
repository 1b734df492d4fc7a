import { createHash } from 'node:crypto';
import type { FailureReason, Fault, TaskSpec } from '../../protocol/task.ts';
import type { KnownEntry } from '../lines/entry.ts';
import type { EventBody } from '../lines/events.ts';
import type { PluginReducer, Replayed } from './plugin-reducer.ts';
import { loadPairs, savePairs } from './reducer.ts';
import { findAttempt, type TaskRecord } from './task-record.ts';

/** Patterns, classes that fail, and classes that are frozen which are remembered; the least recently seen go first. */
export const patternsMax = 256;
const classesMax = 512;
export const frozenMax = 128;
/** Of one pattern: the newest members, models and tasks. */
const membersMax = 16;
const brainsMax = 8;
const examplesMax = 5;
/** Tasks of which it is remembered what models they asked last. */
const heardMax = 256;
/** Characters of a detail that are looked at, and that a pattern keeps. */
const lookedAtMax = 600;
const textMax = 200;
const wordMax = 80;

/** What failures of one kind have in common, and what is told apart in them. */
export interface FailurePattern {
  /** The first hex digits of the digest of what follows, up to `text`. */
  id: string;
  reason: FailureReason;
  fault: Fault;
  /** The program, or the check. */
  word: string;
  /** The detail without what differs from one time to the next. */
  text: string;
  count: number;
  /** Unix ms by the log. */
  first: number;
  last: number;
  /** Newest last, as all that follows. */
  members: string[];
  /** Models that were asked, where one was. */
  brains: string[];
  tasks: string[];
}

/** Tasks of one kind on one repository with one program or check. */
export type TaskClass = Pick<EventBody<'class.frozen'>, 'kind' | 'repository' | 'word'>;

export interface FrozenClass extends TaskClass {
  id: string;
  failures: number;
  at: number;
}

export interface Failures {
  /** By id. */
  patterns: Map<string, FailurePattern>;
  /** Tasks in a row that failed by their own fault, by class. */
  inRow: Map<string, { of: TaskClass; failures: number }>;
  /** By class. */
  frozen: Map<string, FrozenClass>;
  /** Classes that were ever frozen. */
  freezes: number;
  /** Models that the newest attempt of a task asked. */
  heard: Map<string, string[]>;
}

const SHELLS = new Set(['sh', 'bash', 'dash', 'zsh']);

export function classOf(spec: TaskSpec): TaskClass {
  const { kind, repository } = spec;
  const word = wordOf(spec);
  return {
    kind,
    repository: repository === null ? null : { id: repository.id, name: repository.name },
    word,
  };
}

/** The program that is run, of a shell the line it is given; where none is, the first check. */
function wordOf(spec: TaskSpec): string {
  const [check = ''] = spec.checks;
  const argv = spec.kind === 'command' ? spec.argv : [];
  const program = argv[0]?.split('/').at(-1) ?? '';
  const line =
    SHELLS.has(program) && /^-\w*c$/.test(argv[1] ?? '') ? `${program} -c ${argv[2] ?? ''}` : program;
  return alike(line === '' ? check : line).slice(0, wordMax);
}

export const classKey = ({ kind, repository, word }: TaskClass): string =>
  `${kind} ${repository?.id ?? '-'} ${word}`;

/** What a person types for a class or a pattern: the first 10 hex digits of a digest. */
const shortId = (key: string): string => createHash('sha256').update(key).digest('hex').slice(0, 10);

const PARTS: readonly (readonly [RegExp, string])[] = [
  [/\b12D3KooW\w{20,60}/g, 'PEER'],
  [/\b[a-z][a-z0-9+.-]{1,16}:\/\/[^\s"'`]+/gi, 'URL'],
  [/(?:\b[\w.@+-]+|~|\.{1,2})?(?:\/[\w.@+=,%-]+)+\/?/g, 'PATH'],
  [/\b0x[0-9a-f]+\b/gi, 'HEX'],
  [/\b(?=[0-9a-f]*\d)(?=[0-9a-f]*[a-f])[0-9a-f]{7,128}\b/gi, 'HEX'],
  [/\b[0-9a-f]{16,128}\b/gi, 'HEX'],
  [/\d+(?:[.:,_-]\d+)*/g, 'N'],
];

/** A text without what differs from one time to the next: numbers, ids, paths, and the names given. */
export function alike(text: string, names: readonly (readonly [string, string])[] = []): string {
  let said = text.slice(0, lookedAtMax);
  for (const [name, instead] of names) if (name.length > 1) said = said.replaceAll(name, instead);
  for (const [part, instead] of PARTS) said = said.replace(part, instead);
  return said.replace(/[\s\u0000-\u001f\u007f-\u009f]+/g, ' ').trim();
}

/** Reasons that speak against what a task is, and not against where it was. */
const OWN: ReadonlySet<FailureReason | null> = new Set(['task', 'check', 'timeout', 'signal']);

/** Patterns of failures, and classes of tasks that failed so often in a row that they are frozen. Bounded whatever comes. */
export const failuresReducer: PluginReducer<Failures> = {
  name: 'failures',
  version: 1,
  reads: ['attempt.ended', 'budget.spent', 'task.converged', 'class.frozen', 'class.thawed'],
  initial: () => ({ patterns: new Map(), inRow: new Map(), frozen: new Map(), freezes: 0, heard: new Map() }),
  reduce(state, entry: KnownEntry, replayed?: Replayed) {
    switch (entry.type) {
      case 'budget.spent': {
        const models = entry.body.usage.rows.map(({ model }) => model);
        if (models.length > 0) keep(state.heard, entry.body.task, models.slice(-brainsMax), heardMax);
        break;
      }
      case 'attempt.ended': {
        const task = replayed?.tasks.byId.get(entry.body.task);
        if (task !== undefined && entry.body.fault !== 'person') note(state, entry, task, replayed!);
        state.heard.delete(entry.body.task);
        break;
      }
      case 'task.converged': {
        const task = replayed?.tasks.byId.get(entry.body.task);
        state.heard.delete(entry.body.task);
        if (task !== undefined) count(state, entry.body, task.spec);
        break;
      }
      case 'class.frozen': {
        const { kind, repository, word, failures } = entry.body;
        const key = classKey(entry.body);
        state.freezes += 1;
        keep(
          state.frozen,
          key,
          { id: shortId(key), kind, repository, word, failures, at: entry.time },
          frozenMax,
        );
        break;
      }
      case 'class.thawed': {
        const key = classKey(entry.body);
        state.frozen.delete(key);
        state.inRow.delete(key);
        break;
      }
    }
    return state;
  },
  save: ({ patterns, inRow, frozen, freezes, heard }) => ({
    patterns: savePairs(patterns),
    inRow: savePairs(inRow),
    frozen: savePairs(frozen),
    freezes,
    heard: savePairs(heard),
  }),
  load(saved) {
    const { patterns, inRow, frozen, freezes, heard } = structuredClone(saved) as Record<
      keyof Failures,
      unknown
    >;
    return {
      patterns: loadPairs(patterns),
      inRow: loadPairs(inRow),
      frozen: loadPairs(frozen),
      freezes: freezes as number,
      heard: loadPairs(heard),
    };
  },
};

function note(
  state: Failures,
  { body, time }: Extract<KnownEntry, { type: 'attempt.ended' }>,
  task: TaskRecord,
  { members }: Replayed,
): void {
  const { reason, fault, detail } = body;
  const member = findAttempt(task, body.attempt)?.member ?? '';
  const name = members.byPeer.get(member)?.name ?? '';
  const text = alike(detail ?? '', [
    [task.id, 'TASK'],
    [member, 'NODE'],
    [name, 'NODE'],
  ]).slice(0, textMax);
  const word = wordOf(task.spec);
  const id = shortId(JSON.stringify([reason, fault, word, text]));
  const known = state.patterns.get(id);
  const pattern: FailurePattern = {
    ...(known ?? { id, reason, fault, word, text, first: time }),
    count: (known?.count ?? 0) + 1,
    last: time,
    members: newest(known?.members, [member], membersMax),
    brains: newest(known?.brains, state.heard.get(task.id) ?? [], brainsMax),
    tasks: newest(known?.tasks, [task.id], examplesMax),
  };
  keep(state.patterns, id, pattern, patternsMax);
}

function count(state: Failures, { state: ended, reason }: EventBody<'task.converged'>, spec: TaskSpec): void {
  const failed = ended === 'failed' && OWN.has(reason);
  if (!failed && (ended !== 'delivered' || state.inRow.size === 0)) return;
  const of = classOf(spec);
  const key = classKey(of);
  if (ended === 'delivered') state.inRow.delete(key);
  else keep(state.inRow, key, { of, failures: (state.inRow.get(key)?.failures ?? 0) + 1 }, classesMax);
}

/** Puts it last, and lets the first go where there are too many. */
function keep<V>(map: Map<string, V>, key: string, value: V, max: number): void {
  map.delete(key);
  if (map.size >= max) map.delete(map.keys().next().value!);
  map.set(key, value);
}

const newest = (known: readonly string[] = [], more: readonly string[], max: number): string[] =>
  [...known.filter((one) => !more.includes(one)), ...new Set(more)].filter((one) => one !== '').slice(-max);
