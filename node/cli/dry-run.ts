import { EXIT } from '../../protocol/errors.ts';
import type { Client } from '../api/client.ts';
import type { SpecToSend } from '../submit/from-manifest.ts';
import { type Asked, flagsOf, noRouteThere, unknownThere } from '../submit/post-task.ts';
import { cell } from './render.ts';
import { type Session, show } from './session.ts';
import type { Why } from './waiting.ts';
import { whyText } from './why-text.ts';

/** What the founder would make of a task. */
export type DryRun = Why & {
  /** What each worker lacks for good; null: one has it all, or may. */
  unmet: string | null;
};

/** Asks what would come of a task, without sending it. */
export async function askDryRun(client: Client, spec: SpecToSend, { schedule }: Asked): Promise<DryRun> {
  const asked = schedule === undefined ? {} : { schedule };
  try {
    return await client.post<DryRun>('/v1/tasks/dry-run', { spec, ...asked });
  } catch (thrown) {
    throw noRouteThere(unknownThere(thrown, flagsOf(asked)), '--dry-run');
  }
}

/** Says it; answers 0, or 4 where the submission would be refused. */
export function tellDryRun(session: Session, told: DryRun, allowWaiting: boolean): number {
  show(session, told, (why) => whyText(why, session));
  if (told.unmet === null || allowWaiting) return EXIT.ok;
  session.voice.note(`it would be refused: ${cell(told.unmet)} (--allow-waiting queues it)`);
  return EXIT.refused;
}
