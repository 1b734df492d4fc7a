import { createHash } from 'node:crypto';
import { type Lesson, rememberedTextCharactersMax } from '../../protocol/memory.ts';
import type { FailureReason, TaskSpec } from '../../protocol/task.ts';
import { canonicalJson } from '../lines/canonical-json.ts';
import type { KnownEntry } from '../lines/entry.ts';
import type { Actor } from '../lines/events.ts';
import type { PluginReducer } from './plugin-reducer.ts';
import { loadPairs, savePairs } from './reducer.ts';

/** Records in all, of about 2 KB of JSON: loaded with the state in some ten milliseconds. */
export const recordsMax = 4_096;
/** Of one submitter. */
export const recordsOfSubmitterMax = 1_024;
/** Of one kind (`standingOf`) that one submitter has of one repository. */
export const recordsOfKindMax = 64;
/** Goals under way of which something is held; one that was open longer is remembered without what led to it. */
export const draftsMax = 10_000;
/** Of a task's check lines. */
const checksMax = 8;
const checkCharactersMax = 200;

interface Common {
  id: string;
  /** Index of the entry that made it: later ones are newer. */
  number: number;
  by: Actor;
  /** Id and name of the repository; null: of none. */
  repository: { id: string; name: string } | null;
  /** Time of that entry, Unix ms: informational. */
  at: number;
  /** Attempts it was sent with. */
  used: number;
}

/** A goal that has ended. */
export interface TaskMemory extends Common {
  kind: 'task';
  goal: string;
  checks: string[];
  state: 'delivered' | 'failed';
  verified: boolean;
  reason: FailureReason | null;
  detail: string | null;
  /** Of the attempt whose result counts, or the last; null: no machine told of one. */
  lesson: Lesson | null;
  /** Records that its attempts were sent, the newest attempt's. */
  recalled: string[];
  /** `pinsOf` its task: it is told to no machine that the task itself might not have gone to. @default it might go to any */
  pinned?: string;
  /** A cloud might be asked for it. @default none might */
  cloud?: true;
}

/** What somebody left to be known: a claim, whoever it was. */
export interface NoteMemory extends Common {
  kind: 'note';
  file: string | null;
  topic: string | null;
  text: string;
}

export type MemoryRecord = TaskMemory | NoteMemory;

/** A goal under way. */
export type Draft = Pick<
  TaskMemory,
  'by' | 'repository' | 'goal' | 'checks' | 'lesson' | 'recalled' | 'pinned' | 'cloud'
>;

/** What is remembered of goals. A submitter's records are apart from everybody else's. */
export interface Memory {
  /** By `submitterKey`: the oldest first. */
  submitters: Map<string, MemoryRecord[]>;
  drafts: Map<string, Draft>;
  /** Records of all submitters together. */
  size: number;
  /** How many there are of one kind, by `kindKey`. */
  kinds: Map<string, number>;
}

/** Under what a submitter's records lie: machines each have their own, so has each OS user at the founder's socket. */
export const submitterKey = (by: Actor): string => canonicalJson(by);

/** What one submitter's work left, the oldest first. */
export const recordsOf = (memory: Memory, by: Actor): readonly MemoryRecord[] =>
  memory.submitters.get(submitterKey(by)) ?? [];

/** Stands for the machines that a task is kept to, by name or by labels; null: it may go to any. */
export function pinsOf({ on, labels }: Pick<TaskSpec, 'on' | 'labels'>): string | null {
  if (on === null && Object.keys(labels).length === 0) return null;
  return createHash('sha256')
    .update(canonicalJson([on, labels]))
    .digest('hex');
}

/** The record of this id, whoever's; null: there is none. */
export function findRecord(memory: Memory, id: string): MemoryRecord | null {
  for (const records of memory.submitters.values()) {
    const found = records.find((record) => record.id === id);
    if (found !== undefined) return found;
  }
  return null;
}

/** What attempts of a task were sent; null: it is not remembered. */
export function recalledFor(memory: Memory, task: string, by: Actor): readonly string[] | null {
  const draft = memory.drafts.get(task);
  if (draft !== undefined) return draft.recalled;
  const record = recordsOf(memory, by).find(({ id }) => id === task);
  return record?.kind === 'task' ? record.recalled : null;
}

/**
 * Remembers goals that ended, with what their machines measured, and notes. Bounded three ways (promise 18), each by letting go
 * of the oldest: a submitter's verified tasks of a repository, his other tasks there and his notes make no room for each other;
 * where all is full, whoever has most gives way.
 */
export const memoryReducer: PluginReducer<Memory> = {
  name: 'memory',
  version: 1,
  reads: [
    'task.submitted',
    'task.learned',
    'task.converged',
    'memory.recalled',
    'memory.noted',
    'memory.forgotten',
  ],
  initial: () => ({ submitters: new Map(), drafts: new Map(), size: 0, kinds: new Map() }),
  reduce(memory, entry: KnownEntry) {
    switch (entry.type) {
      case 'task.submitted':
        begin(memory, entry.body);
        break;
      case 'task.learned': {
        const draft = memory.drafts.get(entry.body.task);
        if (draft !== undefined) draft.lesson = lessonIn(entry.body);
        break;
      }
      case 'memory.recalled':
        recalled(memory, entry.body);
        break;
      case 'task.converged':
        end(memory, entry);
        break;
      case 'memory.noted': {
        const { by, file, repository, topic, text } = entry.body;
        const common = {
          id: `n${entry.index}`,
          number: entry.index,
          by,
          repository,
          at: entry.time,
          used: 0,
        };
        keep(memory, { kind: 'note', ...common, file, topic, text });
        break;
      }
      case 'memory.forgotten':
        forget(memory, entry.body.record);
        break;
    }
    return memory;
  },
  save: ({ submitters, drafts }) => ({ submitters: savePairs(submitters), drafts: savePairs(drafts) }),
  load(saved) {
    const pairs = saved as { submitters: unknown; drafts: unknown };
    const submitters = loadPairs<MemoryRecord[]>(pairs.submitters);
    const memory: Memory = { submitters, drafts: loadPairs<Draft>(pairs.drafts), size: 0, kinds: new Map() };
    for (const [key, records] of submitters) for (const record of records) count(memory, key, record, 1);
    return memory;
  },
};

type Of<T extends KnownEntry['type']> = Extract<KnownEntry, { type: T }>;

function begin({ drafts }: Memory, { task, spec, by }: Of<'task.submitted'>['body']): void {
  if (spec.kind !== 'code') return;
  const { repository, checks } = spec;
  const pinned = pinsOf(spec);
  drafts.set(task, {
    by,
    repository: repository === null ? null : { id: repository.id, name: repository.name },
    goal: cut(spec.code.goal.trim(), rememberedTextCharactersMax),
    checks: checks.slice(0, checksMax).map((line) => cut(line, checkCharactersMax)),
    lesson: null,
    recalled: [],
    ...(pinned === null ? {} : { pinned }),
    ...(spec.code.cloud === true ? { cloud: true as const } : {}),
  });
  if (drafts.size > draftsMax) drafts.delete(drafts.keys().next().value!);
}

function lessonIn({ files, failures, note }: Of<'task.learned'>['body']): Lesson {
  return note === undefined ? { files, failures } : { files, failures, note };
}

function recalled(memory: Memory, { task, records }: Of<'memory.recalled'>['body']): void {
  const draft = memory.drafts.get(task);
  if (draft === undefined) return;
  draft.recalled = records;
  for (const record of recordsOf(memory, draft.by)) if (records.includes(record.id)) record.used += 1;
}

/** What a person stopped or refused taught nothing. */
function end(memory: Memory, { body, index, time }: Of<'task.converged'>): void {
  const { task: id, state, verified, reason, detail } = body;
  const draft = memory.drafts.get(id);
  if (draft === undefined) return;
  memory.drafts.delete(id);
  if (state !== 'delivered' && state !== 'failed') return;
  const told = detail === null ? null : cut(detail, rememberedTextCharactersMax);
  keep(memory, {
    kind: 'task',
    id,
    number: index,
    ...draft,
    state,
    verified,
    reason,
    detail: told,
    at: time,
    used: 0,
  });
}

/** Records with the same make room for each other. */
const standingOf = (record: MemoryRecord): string =>
  record.kind === 'note' ? 'note' : record.verified ? 'verified' : 'other';
const kindKey = (submitter: string, record: MemoryRecord): string =>
  `${standingOf(record)} ${record.repository?.id ?? ''} ${submitter}`;

/** Notes that there is one more of its kind, or one less; how many there are then. */
function count(memory: Memory, submitter: string, record: MemoryRecord, by: 1 | -1): number {
  const kind = kindKey(submitter, record);
  const now = (memory.kinds.get(kind) ?? 0) + by;
  if (now === 0) memory.kinds.delete(kind);
  else memory.kinds.set(kind, now);
  memory.size += by;
  return now;
}

function keep(memory: Memory, record: MemoryRecord): void {
  const key = submitterKey(record.by);
  const records = memory.submitters.get(key) ?? [];
  if (records.length === 0) memory.submitters.set(key, records);
  records.push(record);
  if (count(memory, key, record, 1) > recordsOfKindMax) {
    const [repository, standing] = [record.repository?.id, standingOf(record)];
    const alike = (one: MemoryRecord): boolean =>
      one.repository?.id === repository && standingOf(one) === standing;
    drop(memory, key, records, records.findIndex(alike));
  } else if (records.length > recordsOfSubmitterMax) drop(memory, key, records, 0);
  if (memory.size <= recordsMax) return;
  let [most, longest] = [key, records];
  for (const [other, of] of memory.submitters) if (of.length > longest.length) [most, longest] = [other, of];
  drop(memory, most, longest, 0);
}

function drop(memory: Memory, key: string, records: MemoryRecord[], at: number): void {
  const [dropped] = records.splice(at, 1);
  count(memory, key, dropped!, -1);
  if (records.length === 0) memory.submitters.delete(key);
}

function forget(memory: Memory, id: string): void {
  for (const [key, records] of memory.submitters) {
    const at = records.findIndex((record) => record.id === id);
    if (at !== -1) {
      drop(memory, key, records, at);
      return;
    }
  }
}

/** Without half a character at its end. */
const cut = (text: string, max: number): string => text.slice(0, max).replace(/[\ud800-\udbff]$/, '');
