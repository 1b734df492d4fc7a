import type { Actor, LogEvent } from '../../../ledger/lines/events.ts';
import {
  findRecord,
  type Memory,
  type MemoryRecord,
  pinsOf,
  recordsOf,
  submitterKey,
} from '../../../ledger/state/memory.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { MemoryObject } from '../../../node/api/objects.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { noteCharactersMax } from '../../../protocol/limits.ts';
import { MEMORY_FEATURE } from '../../../protocol/session.ts';
import type { CodeSpec } from '../../../protocol/task.ts';
import type { Enclosure, PluginView, Recipient } from '../../core/plugin.ts';
import { mayRead, requireOwnWork } from '../../core/rights.ts';
import type { HubPlugin } from '../plugin.ts';
import { forgetBody, listBody, noteBody, searchBody, showBody } from './bodies.ts';
import { MemoryIndex } from './index.ts';
import { enclosable, ranked } from './recall.ts';
import { addMemoryRoutes } from './routes.ts';

type View = PluginView<Memory>;

/** Memory as a plugin: what goals taught, sent with later goals of the same submitter. */
export const memoryPlugin: HubPlugin<Memory> = {
  name: 'memory',
  version: 1,
  events: ['memory.recalled', 'memory.noted', 'memory.forgotten'],
  enclose,
  reads: {
    list: {
      right: 'view',
      body: listBody,
      answer(view, asked, by) {
        const { cursor, limit, repository } = listBody.parse(asked);
        const found = readable(view, by)
          .filter((one) => one.number < cursor && (repository === null || one.repository?.id === repository))
          .sort((a, b) => b.number - a.number);
        const page = found.slice(0, limit);
        const next = found.length > limit ? String(page.at(-1)!.number) : null;
        return { items: page.map(objectOf), next };
      },
    },
    show: {
      right: 'view',
      body: showBody,
      answer: (view, asked, by) => objectOf(readableOne(view, by, showBody.parse(asked).record)),
    },
    search: {
      right: 'view',
      body: searchBody,
      answer(view, asked, by) {
        const { limit, words } = searchBody.parse(asked);
        const found = [...view.own.submitters.values()].flatMap((records) => {
          if (!mayRead(view.state.members, by, records[0]!.by)) return [];
          const fits = INDEX.search(submitterKey(records[0]!.by), records, words);
          return records.flatMap((record) => {
            const fit = fits.get(record.id);
            return fit === undefined ? [] : [{ record, fit }];
          });
        });
        found.sort((a, b) => b.fit - a.fit || b.record.number - a.record.number);
        return { items: found.slice(0, limit).map(({ record }) => objectOf(record)), next: null };
      },
    },
  },
  writes: {
    note: {
      right: 'submit',
      body: noteBody,
      decide(_view, asked, by): LogEvent[] {
        const { repository, file, topic, text } = noteBody.parse(asked);
        const note = text.toWellFormed().trim();
        if (note === '') {
          throw new SuperfleetError('SF_USAGE', 'the note is empty', {
            expected: `1–${noteCharactersMax} characters`,
            got: 'nothing but space',
          });
        }
        return [{ type: 'memory.noted', body: { repository, file, topic, text: note, by } }];
      },
      answer: (view, _asked, by) => objectOf(recordsOf(view.own, by).at(-1)!),
    },
    forget: {
      right: 'submit',
      body: forgetBody,
      decide(view, asked, by): LogEvent[] {
        const { record: id } = forgetBody.parse(asked);
        const record = readableOne(view, by, id);
        requireOwnWork(view.state.members, by, record.by);
        return [{ type: 'memory.forgotten', body: { record: id, by } }];
      },
      answer: (_view, asked) => ({ id: forgetBody.parse(asked).record, forgotten: true }),
    },
  },
  routes: addMemoryRoutes,
};

/** One for the process: what it holds follows from the records it is asked about. */
const INDEX = new MemoryIndex();

/** To the executor of a goal, where it understands it: of the submitter's own records, never of another's. */
function enclose({ own, time }: View, task: TaskRecord, to: Recipient): Enclosure | null {
  const { spec, by, id, correlation } = task;
  if (to.role !== 'execute' || spec.kind !== 'code' || !to.features.includes(MEMORY_FEATURE)) return null;
  const records = recordsOf(own, by);
  if (records.length === 0) return null;
  const lesson = own.drafts.get(id)?.lesson ?? null;
  const repository = spec.repository?.id ?? null;
  const { goal } = spec.code;
  const words = [goal, ...(lesson?.failures ?? []).map(({ pattern }) => pattern)].join(' ');
  const fits = INDEX.search(submitterKey(by), records, words);
  const told = records.filter((record) => mayBeTold(record, spec));
  const remembered = enclosable(ranked(told, fits, { goal, repository, lesson, time }), repository);
  if (remembered.length === 0) return null;
  const body = { task: id, attempt: to.attempt, correlation, records: remembered.map((one) => one.id) };
  return { fields: { remembered }, events: [{ type: 'memory.recalled', body }] };
}

/**
 * What was kept to some machines is told where a task is kept to the same; and what was not meant for a cloud to none, which no note is: whoever
 * sends a goal says so of that goal.
 */
function mayBeTold(record: MemoryRecord, spec: CodeSpec): boolean {
  const { pinned, cloud } = record.kind === 'task' ? record : { pinned: undefined, cloud: undefined };
  if (spec.code.cloud === true && cloud !== true) return false;
  return pinned === undefined || pinned === pinsOf(spec);
}

const readable = (view: View, by: Actor): MemoryRecord[] =>
  [...view.own.submitters.values()]
    .filter((records) => mayRead(view.state.members, by, records[0]!.by))
    .flat();

/** What is somebody else's is not there for who may not read it. */
function readableOne(view: View, by: Actor, id: string): MemoryRecord {
  const record = findRecord(view.own, id);
  if (record !== null && mayRead(view.state.members, by, record.by)) return record;
  throw new SuperfleetError('SF_NOT_FOUND', `nothing is remembered as ${id}`, {
    expected: 'the id of a goal that has ended, or of a note',
    got: id,
    hint: 'memory list shows what is remembered',
  });
}

function objectOf(record: MemoryRecord): MemoryObject {
  const { id, kind, by, repository, at, used } = record;
  const common = { id, kind, submitter: by, repository, used, at };
  if (record.kind === 'note') {
    const { file, text, topic } = record;
    const none = { note: null, state: null, reason: null, detail: null, failures: [], recalled: [] };
    return { ...common, verified: false, text, files: file === null ? [] : [file], topic, ...none };
  }
  const { goal, verified, state, reason, detail, lesson, recalled, checks } = record;
  return {
    ...common,
    verified,
    text: goal,
    state,
    reason,
    detail,
    files: [...(lesson?.files ?? [])],
    failures: (lesson?.failures ?? []).map(({ check, before, pattern }) => ({
      check: checks[check] ?? null,
      before,
      pattern,
    })),
    topic: null,
    note: lesson?.note ?? null,
    recalled: [...recalled],
  };
}
