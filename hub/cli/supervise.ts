import type { Client } from '../../node/api/client.ts';
import type {
  CapacityObject,
  MeshObject,
  PausedObject,
  PolicyDefaultObject,
} from '../../node/api/objects.ts';
import { cell, fields, meshText, type Paint } from '../../node/cli/render.ts';
import { type Session, show } from '../../node/cli/session.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { SuperviseCommand } from './supervise-grammar.ts';

/** Performs one of the commands, and shows what the founder answers. */
export async function supervise(command: SuperviseCommand, session: Session): Promise<number> {
  const client = session.client();
  switch (command.verb) {
    case 'pause':
      show(session, await pauseMesh(client, command.drain), pausedMeshText);
      return EXIT.ok;
    case 'resume':
      show(session, await client.post<MeshObject>('/v1/mesh/resume'), meshText);
      return EXIT.ok;
    case 'capacity show':
      show(session, await client.get<CapacityObject>('/v1/mesh/capacity'), capacityText);
      return EXIT.ok;
    case 'capacity set': {
      const { ring, elastic } = command;
      const asked = { ...(ring === null ? {} : { ring }), ...(elastic === null ? {} : { elastic }) };
      show(session, await client.post<CapacityObject>('/v1/mesh/capacity', asked), capacityText);
      return EXIT.ok;
    }
    case 'policy default': {
      const path = '/v1/mesh/policy';
      const { policy } = command;
      const answer = await (policy === undefined
        ? client.get<PolicyDefaultObject>(path)
        : client.post<PolicyDefaultObject>(path, { policy }));
      show(session, answer, policyDefaultText);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

const pauseMesh = (client: Client, drain: boolean): Promise<PausedObject> =>
  client.post<PausedObject>('/v1/mesh/pause', drain ? { drain } : {});

/** A founder that runs may be older than the program that asks it. */
function pausedMeshText(mesh: MeshObject & Partial<PausedObject>, paint: Paint): string {
  const lines = (mesh.unreached ?? []).map(({ name, attempts, within }) => {
    const what = attempts === 1 ? '1 attempt' : `${attempts} attempts`;
    const words = `not reached: ${cell(name)} with ${what}; it stops by itself within ${Math.ceil(within / 1000)} s`;
    return paint(words, 'yellow');
  });
  return [meshText(mesh, paint), ...lines].join('\n');
}

function policyDefaultText({ policy, older }: PolicyDefaultObject, paint: Paint): string {
  if (policy === null) return 'no default: machines work as their owners and invites say';
  const lines = [`${cell(policy)}: on every machine, besides what its owner and its invite say`];
  if (older.length > 0 && policy !== 'always') {
    const names = older.map((name) => cell(name)).join(', ');
    lines.push(paint(`given no work, for their release does not keep it: ${names}`, 'yellow'));
  }
  return lines.join('\n');
}

function capacityText(capacity: CapacityObject, paint: Paint): string {
  const { ring, elastic, set, bound, running, idle, held } = capacity;
  const lines = fields([
    ['ring', `${ring} attempts at any time${set ? '' : ' (default)'}`],
    ['elastic', `${elastic} while work waits${set ? '' : ' (default)'}`],
    ['now', `${running} run, ${bound} may; ${idle} more slots are free`],
  ]);
  if (!held) return lines;
  const more = `mesh-hub capacity set --elastic ${running + idle}`;
  return `${lines}\n${paint(`tasks wait while slots are idle: ${more}`, 'yellow')}`;
}
