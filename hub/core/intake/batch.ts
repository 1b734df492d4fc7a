import type { Actor } from '../../../ledger/lines/events.ts';
import type { TaskObject } from '../../../node/api/objects.ts';
import { taskObject } from '../../../node/views/task.ts';
import { asSuperfleetError, SuperfleetError } from '../../../protocol/errors.ts';
import { isTaskId } from '../../../protocol/ids.ts';
import { afterMax, batchMax } from '../../../protocol/limits.ts';
import type { FounderContext } from '../context.ts';
import type { Submission } from '../types.ts';
import {
  enter,
  freshIds,
  lookUp,
  requireAdmissible,
  requireReachable,
  requireShortChain,
  submission,
} from './submission.ts';

/** One of several tasks that are sent at once. */
export interface BatchItem extends Omit<Submission, 'correlation'> {
  /** By which others of the batch name it. */
  name?: string | undefined;
  /** Names of others of the batch, or ids of tasks. */
  after?: string[] | undefined;
}

/**
 * All of these tasks, or none: what is wrong with one is said of it, and nothing is logged then. In the order in which they were
 * given; one whose key was sent before is the task it was then.
 */
export function submitMany(
  ctx: FounderContext,
  by: Actor,
  { items, correlation }: { items: readonly BatchItem[]; correlation: string | null },
): { items: TaskObject[]; next: null } {
  if (items.length === 0 || items.length > batchMax) {
    throw new SuperfleetError('SF_USAGE', 'that many tasks are not sent at once', {
      expected: `1 to ${batchMax} tasks`,
      got: `${items.length}`,
      hint: 'send them in several batches; those of one correlation are listed together',
    });
  }
  const places = placesOf(items);
  const ids = freshIds(ctx, items.length);
  const shared = correlation ?? ids[0]!;
  const beside = new Set(ids);
  const before = new Map<number, string>();
  const events = new Map<number, ReturnType<typeof submission>>();
  for (const at of inOrder(items, places)) {
    const asked = items[at]!;
    about(items, at, () => {
      const ahead = asked.after?.map((word) => {
        const place = places.get(word);
        return place === undefined ? word : (before.get(place) ?? ids[place]!);
      });
      const schedule = withAfter(asked.schedule, ahead);
      const whole = schedule === asked.schedule ? asked : { ...asked, schedule };
      const { before: known } = lookUp(ctx, by, whole, false);
      if (known !== null) {
        before.set(at, known.id);
        return;
      }
      requireShortChain(ctx, whole);
      requireReachable(ctx, whole.spec.repository?.base ?? null, whole.bundle);
      requireAdmissible(ctx, by, whole, beside);
      const { spec, bundle } = asked;
      const facts = { spec, bundle, correlation: shared, rerunOf: null, by };
      events.set(at, submission(schedule === undefined ? facts : { ...facts, schedule }, ids[at]!));
    });
  }
  ctx.room.require(by, events.size, ctx.config, ctx.now);
  enter(ctx, [...events.values()]);
  const made = items.map((_, at) => taskObject(ctx.state, ctx.task(before.get(at) ?? ids[at]!)));
  return { items: made, next: null };
}

function withAfter(asked: Submission['schedule'], after: string[] | undefined): Submission['schedule'] {
  if (after === undefined && asked?.after === undefined) return asked;
  const all = [...new Set([...(asked?.after ?? []), ...(after ?? [])])];
  if (all.length > afterMax) {
    throw new SuperfleetError('SF_USAGE', 'it comes after too many tasks', {
      expected: `at most ${afterMax}`,
      got: `${all.length}`,
    });
  }
  return all.length === 0 ? asked : { ...asked, after: all };
}

/** Where each name stands. Throws for one that is given twice, and for keys that are. */
function placesOf(items: readonly BatchItem[]): Map<string, number> {
  const places = new Map<string, number>();
  const keys = new Set<string>();
  for (const [at, { name, schedule }] of items.entries()) {
    about(items, at, () => {
      for (const [word, seen] of [
        [name, places],
        [schedule?.key, keys],
      ] as const) {
        if (word === undefined || !seen.has(word)) continue;
        throw new SuperfleetError('SF_USAGE', `another task of the batch has ${word} too`, {
          expected: 'names and keys of their own',
          got: word,
        });
      }
    });
    if (name !== undefined) places.set(name, at);
    if (schedule?.key !== undefined) keys.add(schedule.key);
  }
  return places;
}

/** The places of the items, each behind those that it comes after. Throws for names that nothing has, and for cycles. */
function inOrder(items: readonly BatchItem[], places: ReadonlyMap<string, number>): number[] {
  const order: number[] = [];
  const done = new Set<number>();
  /** From the first that was looked at down to the one that is. */
  const path: number[] = [];
  const visit = (at: number): void => {
    if (done.has(at)) return;
    const begins = path.indexOf(at);
    if (begins !== -1) {
      const words = [...path.slice(begins), at].map((place) => called(items, place));
      throw new SuperfleetError('SF_USAGE', 'these tasks come after each other in a circle', {
        expected: 'a first one that comes after none of them',
        got: words.join(' after '),
        hint: 'leave one `after` out',
      });
    }
    path.push(at);
    for (const word of items[at]!.after ?? []) {
      const place = places.get(word);
      if (place !== undefined) visit(place);
      else if (!isTaskId(word)) {
        throw new SuperfleetError(
          'SF_USAGE',
          `${called(items, at)} comes after ${word}, which is not there`,
          {
            expected: 'the name of another task of the batch, or the id of a task',
            got: word,
            hint: places.size === 0 ? null : `names here: ${[...places.keys()].slice(0, 8).join(', ')}`,
          },
        );
      }
    }
    path.pop();
    done.add(at);
    order.push(at);
  };
  for (const at of items.keys()) visit(at);
  return order;
}

const called = (items: readonly BatchItem[], at: number): string =>
  items[at]!.name ?? `task ${at + 1} of the batch`;

/** Says of an error which of the tasks it is about. */
function about(items: readonly BatchItem[], at: number, look: () => void): void {
  try {
    look();
  } catch (thrown) {
    const { code, message, expected, got, hint } = asSuperfleetError(thrown);
    if (code === 'SF_INTERNAL') throw thrown;
    throw new SuperfleetError(code, `${called(items, at)}: ${message}`, {
      expected,
      got,
      hint,
      cause: thrown,
    });
  }
}
