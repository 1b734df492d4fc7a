import type { FailuresObject } from '../../node/api/objects.ts';
import { cell, moment, table } from '../../node/cli/render.ts';
import { type Session, show, typedHere } from '../../node/cli/session.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { FailuresCommand } from './failures-grammar.ts';

/** `failures list|thaw`. */
export async function runFailures(command: FailuresCommand, session: Session): Promise<number> {
  const client = session.client();
  switch (command.verb) {
    case 'failures list':
      show(session, await client.get<FailuresObject>('/v1/failures'), (found) =>
        failuresText(found, session),
      );
      return EXIT.ok;
    case 'failures thaw': {
      const left = await client.post<FailuresObject>('/v1/failures/thaw', { class: command.class });
      show(session, left, () => `${command.class} goes on`);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

function failuresText({ items, frozen }: FailuresObject, session: Session): string {
  const lines: string[] = [];
  for (const { id, kind, repository, word, failures, at } of frozen) {
    const where = repository === null ? '' : ` on ${cell(repository)}`;
    const of = `${cell(kind)} “${cell(word)}”${where}`;
    lines.push(`frozen since ${moment(at)}: ${of}, ${failures} tasks failed in a row`);
    lines.push(`try: ${typedHere(session, `mesh-hub failures thaw ${id}`)}`);
  }
  if (items.length === 0) lines.push('no attempt has failed');
  else {
    const rows = items.map(({ count, last, reason, fault, word, text, members, brains, tasks }) => [
      `${count}`,
      moment(last),
      `${reason} (${fault})`,
      cell(word),
      members.map(({ id, name }) => cell(name ?? id.slice(-8))).join(', ') || '-',
      brains.map((brain) => cell(brain)).join(', ') || '-',
      cell(tasks.at(-1) ?? null),
      cell(text),
    ]);
    lines.push(table(['COUNT', 'LAST', 'REASON', 'OF', 'ON', 'MODELS', 'TASK', 'WHAT'], rows));
  }
  return lines.join('\n');
}
