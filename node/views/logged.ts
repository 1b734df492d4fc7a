import { activeMembers, type MemberRecord } from '../../ledger/state/members.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { AsOf, LoggedMesh, LoggedNode } from '../api/objects.ts';
import { memberFacts, meshFacts } from './mesh.ts';

/** The mesh as a log alone tells of it: who is online, and what is used now, only the founder knows. */
export function loggedMesh(mesh: string, state: MeshState, asOf: AsOf): LoggedMesh {
  const { byId, open } = state.tasks;
  const states = [...open].map((id) => byId.get(id)?.state);
  return {
    ...meshFacts(mesh, state),
    epoch: state.mesh.epoch,
    size: asOf.size,
    root: asOf.root,
    nodes: { online: null, total: activeMembers(state.members).length },
    slots: { used: null, total: null },
    queue: {
      queued: states.filter((one) => one === 'queued').length,
      running: states.filter((one) => one === 'assigned' || one === 'running').length,
    },
    warnings: [asOf.why],
    asOf,
  };
}

/** A member as a log alone tells of it; what it offers and does now is not in it. */
export const loggedNode = (member: MemberRecord): LoggedNode => ({
  ...memberFacts(member),
  state: member.standing === 'revoked' ? 'revoked' : null,
  slots: { used: null, total: null },
  models: null,
  tools: null,
  labels: member.labels,
  limits: null,
  policy: member.policy ?? null,
  work: null,
  ...(member.quarantined === undefined ? {} : { quarantined: `is in quarantine: ${member.quarantined.why}` }),
  lag: null,
});
