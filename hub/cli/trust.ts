import type { NodeObject, TrustObject } from '../../node/api/objects.ts';
import { cell, nodeText, table } from '../../node/cli/render.ts';
import { type Session, show } from '../../node/cli/session.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { TrustCommand } from './trust-grammar.ts';

/** `trust show|sampling`, `node trust`. */
export async function runTrust(command: TrustCommand, session: Session): Promise<number> {
  const client = session.client();
  switch (command.verb) {
    case 'trust show':
      show(session, await client.get<TrustObject>('/v1/trust'), trustText);
      return EXIT.ok;
    case 'trust sampling':
      show(session, await client.post<TrustObject>('/v1/trust/sampling', { on: command.on }), trustText);
      return EXIT.ok;
    case 'node trust': {
      const { node, vouch } = command;
      show(session, await client.post<NodeObject>(`/v1/nodes/${node}/trust`, { vouch }), nodeText);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

function trustText({ sampling, trustedAfter, members }: TrustObject): string {
  const rows = members.map(({ name, founder, trusted, valid, invalid, verifies, quarantined }) => [
    cell(name),
    quarantined !== null ? 'quarantine' : founder ? 'founder' : trusted ? 'yes' : 'not yet',
    `${valid}`,
    `${invalid}`,
    `${Math.round(verifies * 100)} %`,
  ]);
  const reasons = members.flatMap(({ name, quarantined }) =>
    quarantined === null ? [] : [cell(`${name}: ${quarantined.why} (task ${quarantined.task})`)],
  );
  const how = sampling
    ? 'sampling is on: results of trusted machines are verified as often as shown'
    : 'sampling is off: every result with checks is verified';
  return [
    table(['NAME', 'TRUSTED', 'VALID IN A ROW', 'INVALID', 'VERIFIED'], rows),
    ...reasons,
    `trusted from ${trustedAfter} valid results in a row; ${how}`,
  ].join('\n');
}
