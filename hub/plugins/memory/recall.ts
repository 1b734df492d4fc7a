import type { Draft, MemoryRecord, TaskMemory } from '../../../ledger/state/memory.ts';
import {
  type Remembered,
  rememberedCharactersMax,
  rememberedMax,
  rememberedTextCharactersMax,
} from '../../../protocol/memory.ts';
import { wordsOf } from './index.ts';

/** What a goal is held against. */
export interface Asked {
  goal: string;
  /** Id of its repository; null: none. */
  repository: string | null;
  /** What an earlier attempt at it changed and what was red then; null: nothing is known. */
  lesson: Draft['lesson'];
  /** Unix ms. */
  time: number;
}

/** A record and what speaks for it. */
export interface Scored {
  record: MemoryRecord;
  score: number;
}

/** After so long a record is worth half of what recency adds. */
const halfLifeMs = 30 * 24 * 3_600_000;
/** How much each thing counts. The text leads; that it is of the same repository counts as much as half a perfect match. */
const WORTH = { text: 2, here: 1, file: 1, failure: 2, recency: 0.5, verified: 0.5, link: 1 } as const;
/** Of another repository only what fits this well, against the best. */
const elsewhereFitMin = 0.5;
/** Best records of which links are followed. */
const seedsMax = 4;

/**
 * The records that a goal may be taught by, the best first: those whose words fit, that changed a file it names or had the failure it
 * has, notes about its repository, and, one step from the best of these, what changed the same files or made the same failure go away.
 * `fits`: how well the words of each record fit, as the index says. The same records and question give the same answer.
 */
export function ranked(
  records: readonly MemoryRecord[],
  fits: ReadonlyMap<string, number>,
  { goal, repository, lesson, time }: Asked,
): Scored[] {
  const words = new Set(wordsOf(goal));
  const patterns = new Set((lesson?.failures ?? []).map(({ pattern }) => pattern));
  const changed = new Set(lesson?.files ?? []);
  const scored = new Map<string, Scored>();
  const worthOf = (record: MemoryRecord): number => {
    const age = Math.max(0, time - record.at) / halfLifeMs;
    const verified = record.kind === 'task' && record.verified ? WORTH.verified : 0;
    return WORTH.recency * 2 ** -age + verified;
  };
  for (const record of records) {
    const here = repository !== null && record.repository?.id === repository;
    const fit = fits.get(record.id) ?? 0;
    const named = filesOf(record).some((path) => changed.has(path) || isNamed(path, words, goal));
    const failed = failuresOf(record).some((pattern) => patterns.has(pattern));
    const note = record.kind === 'note' && (here || record.repository === null);
    const counts = here ? fit > 0 || named || failed || note : fit >= elsewhereFitMin || failed || note;
    if (!counts) continue;
    const score =
      WORTH.text * fit +
      (here ? WORTH.here : 0) +
      (named && here ? WORTH.file : 0) +
      (failed ? WORTH.failure : 0) +
      worthOf(record);
    scored.set(record.id, { record, score });
  }
  const best = [...scored.values()].sort(byScore).slice(0, seedsMax);
  for (const record of records) {
    const links = best.filter((seed) => seed.record.id !== record.id && isLinked(seed.record, record)).length;
    if (links === 0) continue;
    const known = scored.get(record.id);
    const score = known === undefined ? worthOf(record) + WORTH.link : known.score + WORTH.link;
    scored.set(record.id, { record, score });
  }
  return [...scored.values()].sort(byScore);
}

/** Of equal ones the newer first. */
const byScore = (a: Scored, b: Scored): number => b.score - a.score || b.record.number - a.record.number;

const filesOf = (record: MemoryRecord): readonly string[] =>
  record.kind === 'note' ? (record.file === null ? [] : [record.file]) : (record.lesson?.files ?? []);

const failuresOf = (record: MemoryRecord): string[] =>
  record.kind === 'note'
    ? []
    : (record.lesson?.failures ?? []).flatMap(({ pattern }) => (pattern === '' ? [] : [pattern]));

/** The goal names this path, or its last part. */
function isNamed(path: string, words: ReadonlySet<string>, goal: string): boolean {
  const name = path.slice(path.lastIndexOf('/') + 1);
  return name.length > 2 && goal.includes(name) && wordsOf(name).every((word) => words.has(word));
}

/** A verified task that changed a file of the other in the same repository, or before whose work the same failure was red. */
function isLinked(from: MemoryRecord, to: MemoryRecord): boolean {
  if (to.kind !== 'task' || !to.verified) return false;
  const patterns = new Set(failuresOf(from));
  const fixed = (to.lesson?.failures ?? []).some(({ before, pattern }) => before && patterns.has(pattern));
  if (fixed) return true;
  const same = from.repository !== null && from.repository.id === to.repository?.id;
  const files = new Set(filesOf(from));
  return same && filesOf(to).some((path) => files.has(path));
}

/** The first of them that fit the bounds of what is sent, as they are sent. */
export function enclosable(best: readonly Scored[], repository: string | null): Remembered[] {
  const sent: Remembered[] = [];
  let characters = 0;
  for (const { record } of best) {
    const one = sentOf(record, repository);
    const length = JSON.stringify(one).length;
    if (characters + length > rememberedCharactersMax) continue;
    characters += length;
    sent.push(one);
    if (sent.length === rememberedMax) break;
  }
  return sent;
}

function sentOf(record: MemoryRecord, repository: string | null): Remembered {
  const here = repository !== null && record.repository?.id === repository;
  if (record.kind === 'task') {
    const { id, goal, verified, lesson } = record;
    // A check that printed nothing has no line to tell.
    const told = (lesson?.failures ?? []).filter(({ pattern }) => pattern !== '');
    const failures = told.map(({ before, pattern }) => ({ before, pattern }));
    return {
      id,
      kind: 'task',
      verified,
      here,
      text: goal,
      about: outcomeOf(record),
      files: lesson?.files ?? [],
      failures,
      ...(lesson?.note === undefined ? {} : { note: lesson.note }),
    };
  }
  const { id, file, topic, text } = record;
  const about = [file === null ? '' : `about ${file}`, topic === null ? '' : `on ${topic}`]
    .filter(Boolean)
    .join(', ');
  return {
    id,
    kind: 'note',
    verified: false,
    here,
    text: cut(text),
    about: about === '' ? null : about,
    files: [],
    failures: [],
  };
}

/** How a task ended, in words; null: as it should. */
function outcomeOf({ state, reason, detail, verified }: TaskMemory): string | null {
  if (state === 'delivered') return verified ? null : 'nobody verified it';
  return cut(`failed (${reason ?? 'unknown'})${detail === null ? '' : `: ${detail}`}`);
}

const cut = (text: string): string =>
  text.slice(0, rememberedTextCharactersMax).replace(/[\ud800-\udbff]$/, '');
