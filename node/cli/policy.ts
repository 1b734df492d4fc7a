import { formatDuration } from '../../protocol/duration.ts';
import { EXIT } from '../../protocol/errors.ts';
import type { PolicyObject } from '../api/objects.ts';
import type { PolicyCommand } from './policy-grammar.ts';
import { cell, fields } from './render.ts';
import { type Session, show } from './session.ts';

/** `mesh-node policy …`: the owner's word to the node that runs. */
export async function runPolicy(command: PolicyCommand, session: Session): Promise<number> {
  const client = session.client();
  switch (command.verb) {
    case 'policy show':
      show(session, await client.get<PolicyObject>('/v1/node/policy'), policyText);
      return EXIT.ok;
    case 'policy set': {
      const { policy } = command;
      show(session, await client.post<PolicyObject>('/v1/node/policy', { policy }), policyText);
      return EXIT.ok;
    }
    case 'policy test': {
      const { policy } = command;
      const tested =
        policy === undefined
          ? await client.get<PolicyObject>('/v1/node/policy')
          : await client.post<PolicyObject>('/v1/node/policy/test', { policy });
      show(session, tested, testText);
      return EXIT.ok;
    }
    default:
      return command satisfies never;
  }
}

const policyText = (policy: PolicyObject): string =>
  fields([
    ['policy', `${policy.policy} (${policy.from})`],
    ['owner', policy.owner ?? 'says nothing'],
    ['invite', policy.invite ?? 'says nothing'],
    ['mesh', policy.mesh ?? 'says nothing'],
    ['now', `${policy.holds ? 'holds' : 'does not hold'}${policy.why === '' ? '' : `: ${cell(policy.why)}`}`],
    ...(policy.paused ? [['paused', pauseWords(policy.pausedUntil)] as [string, unknown]] : []),
    [
      'yields',
      policy.evictMs === 0 ? 'at once' : `suspended at once, ended after ${formatDuration(policy.evictMs)}`,
    ],
  ]);

const pauseWords = (until: number | null): string =>
  until === null ? 'until "mesh-node resume"' : `until ${new Date(until).toLocaleString()}`;

function testText(policy: PolicyObject): string {
  const conditions = policy.conditions.map(({ condition, holds, why, mesh }): [string, unknown] => [
    `${cell(condition)}${mesh ? ' (the mesh)' : ''}`,
    `${holds ? 'holds' : 'does not hold'}${why === '' ? '' : `: ${cell(why)}`}`,
  ]);
  const signals = policy.signals.map(({ name, says }): [string, unknown] => [name, cell(says)]);
  return [
    `${cell(policy.policy)} (${policy.from}) ${policy.holds ? 'holds' : 'does not hold'} now`,
    fields(conditions),
    'signs:',
    fields(signals),
  ].join('\n');
}
