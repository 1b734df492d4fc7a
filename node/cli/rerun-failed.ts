import { EXIT } from '../../protocol/errors.ts';
import type { FailureReason } from '../../protocol/task.ts';
import type { Client } from '../api/client.ts';
import type { Page, TaskObject } from '../api/objects.ts';
import { cell } from './render.ts';
import type { Session } from './session.ts';

/** Newest tasks that are looked at, by pages, and those sent again at once: what is left is said. */
const pagesMax = 20;
const pageItems = 1_000;
const sentMax = 1_000;

/** Which failed tasks are meant; null: all. */
export interface FailedTasks {
  sinceMs: number | null;
  reason: FailureReason | null;
}

/** Sends again, in their old order, the failed tasks that nobody has sent again yet. Stops at the first that is refused, which it throws. */
export async function rerunFailed(wanted: FailedTasks, session: Session, client: Client): Promise<number> {
  const { voice } = session;
  const { found, more } = await failedTasks(wanted, client, Date.now());
  const made: TaskObject[] = [];
  try {
    for (const { id, reason } of found.slice(0, sentMax)) {
      const task = await client.post<TaskObject>(`/v1/tasks/${id}/rerun`);
      made.push(task);
      if (!voice.json) voice.out(`${cell(task.id)} again for ${cell(id)}, which failed with ${cell(reason)}`);
    }
  } finally {
    if (voice.json) voice.document({ items: made, next: null });
    const left = found.length - made.length;
    if (left > 0) voice.note(`${left} more failed: type it again`);
    if (found.length === 0) voice.note('no task failed so that was not sent again already');
    if (more) voice.note(`only the ${pagesMax * pageItems} newest tasks were looked at`);
  }
  return EXIT.ok;
}

async function failedTasks(
  { sinceMs, reason }: FailedTasks,
  client: Client,
  now: number,
): Promise<{ found: TaskObject[]; more: boolean }> {
  const found: TaskObject[] = [];
  const again = new Set<string>();
  let cursor: string | null = null;
  for (let page = 0; page < pagesMax; page += 1) {
    const query = new URLSearchParams({ limit: `${pageItems}` });
    if (cursor !== null) query.set('cursor', cursor);
    const { items, next } = await client.get<Page<TaskObject>>(`/v1/tasks?${query}`);
    for (const task of items) {
      // What was sent again is newer than what it repeats, so it has come before.
      if (task.rerunOf != null) again.add(task.rerunOf);
      const late = sinceMs !== null && (task.finishedAt ?? 0) < now - sinceMs;
      const other = reason !== null && task.reason !== reason;
      if (task.state === 'failed' && !late && !other && !again.has(task.id)) found.push(task);
    }
    cursor = next;
    if (cursor === null) break;
  }
  return { found: found.reverse(), more: cursor !== null };
}
