import { cell, table } from './render.ts';
import { type Session, typedHere } from './session.ts';
import type { Why } from './waiting.ts';

/** The causes, then one line a machine: what did not match. */
export function whyText({ state, reasons, members, remedies = [] }: Why, session: Session): string {
  const said = reasons.map(cell).join('; ') || 'a machine can take it';
  const lines = [said.startsWith(cell(state)) ? said : `${cell(state)}: ${said}`];
  if (members.length > 0)
    lines.push(
      table(
        ['NODE', 'WHY'],
        members.map(({ name, why }) => [cell(name), cell(why)]),
      ),
    );
  for (const remedy of remedies) lines.push(`try: ${cell(typedHere(session, remedy))}`);
  return lines.join('\n');
}
