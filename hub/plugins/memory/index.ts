import MiniSearch from 'minisearch';
import type { MemoryRecord } from '../../../ledger/state/memory.ts';

/** Submitters whose index is kept; the one that was asked for longest ago is made anew. */
const indexesMax = 64;
/** Words of a question that are looked for, and of one field of a record. */
const wordsMax = 256;
/** Of one field of a record, that its words are looked for in. */
const fieldCharactersMax = 1_500;
/** Different words of one index: who writes of work has a tenth of them, and a founder is not kept busy by who makes them up. */
const termsMax = 16_384;
const wordCharactersMax = 64;
/** Records that were let go and still take room in an index; past it the index is made anew. */
const goneMax = 256;
/** Words that are in every goal and tell none from another. */
const COMMON = new Set(
  'a an and are as at be but by can do does for from has have if in into is it its make must no not of on or say so than that the their them then there they this to up was what when which with you'.split(
    ' ',
  ),
);

/** Text of a record that is looked through, by what it is. */
interface Document {
  id: string;
  text: string;
  files: string;
  failures: string;
}

interface Kept {
  search: MiniSearch<Document>;
  ids: Set<string>;
}

/**
 * Full-text indexes of what is remembered, one for each submitter, made when first asked for and kept up with its records. Nothing
 * of them is in the state: the same records give the same answers.
 */
export class MemoryIndex {
  readonly #kept = new Map<string, Kept>();

  /** How well each of these records, all of one submitter, fits the words: by id, only those that do, the best is 1. */
  search(submitter: string, records: readonly MemoryRecord[], words: string): Map<string, number> {
    const { search } = this.#of(submitter, records);
    const found = search.search(wordsOf(words).slice(0, wordsMax).join(' '));
    const best = found[0]?.score ?? 1;
    return new Map(found.map(({ id, score }) => [id as string, score / best]));
  }

  #of(submitter: string, records: readonly MemoryRecord[]): Kept {
    const known = this.#kept.get(submitter);
    const usable = known !== undefined && known.search.dirtCount <= goneMax;
    const kept = usable ? known : { search: newIndex(), ids: new Set<string>() };
    this.#kept.delete(submitter);
    this.#kept.set(submitter, kept);
    if (this.#kept.size > indexesMax) this.#kept.delete(this.#kept.keys().next().value!);
    const now = new Set(records.map(({ id }) => id));
    const gone = [...kept.ids].filter((id) => !now.has(id));
    for (const id of gone) kept.search.discard(id);
    const added = records.filter(({ id }) => !kept.ids.has(id));
    kept.search.addAll(added.map(documentOf));
    kept.ids = now;
    return kept;
  }
}

function newIndex(): MiniSearch<Document> {
  const terms = new Set<string>();
  return new MiniSearch<Document>({
    fields: ['text', 'files', 'failures'],
    tokenize: (text) => wordsOf(text.slice(0, fieldCharactersMax)).slice(0, wordsMax),
    processTerm: (term, field) => {
      // Without a field it is a question's.
      if (field !== undefined && terms.size < termsMax) terms.add(term);
      return terms.has(term) ? term : null;
    },
    searchOptions: { tokenize: wordsOf, boost: { text: 2, files: 1.5 }, combineWith: 'OR' },
    // Its cleaning up runs on timers, of which the core has none.
    autoVacuum: false,
  });
}

function documentOf(record: MemoryRecord): Document {
  if (record.kind === 'note') {
    const { id, file, text, topic } = record;
    return { id, text: `${topic ?? ''} ${text}`, files: file ?? '', failures: '' };
  }
  const { id, goal, checks, lesson } = record;
  return {
    id,
    text: `${goal} ${lesson?.note ?? ''}`,
    files: lesson?.files.join(' ') ?? '',
    failures: [...checks, ...(lesson?.failures ?? []).map(({ pattern }) => pattern)].join(' '),
  };
}

/** Words of prose, code and paths in small letters: `parseDate` is also `parse` and `date`. */
export function wordsOf(text: string): string[] {
  const words = new Set<string>();
  for (const [whole] of text.matchAll(/[\p{L}\p{N}_]+/gu)) {
    for (const part of [whole, ...whole.split(/_+|(?<=[\p{Ll}\p{N}])(?=\p{Lu})/u)]) {
      const word = part.toLowerCase();
      if (word.length > 1 && word.length <= wordCharactersMax && !COMMON.has(word)) words.add(word);
    }
  }
  return [...words];
}
