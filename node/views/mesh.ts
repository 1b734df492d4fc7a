import type { MemberRecord, Members } from '../../ledger/state/members.ts';
import { isHalted } from '../../ledger/state/mesh.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { MeshObject, NodeObject } from '../api/objects.ts';

/** What the log alone tells of the mesh. */
export function meshFacts(
  mesh: string,
  state: MeshState,
): Pick<MeshObject, 'mesh' | 'name' | 'founder' | 'paused' | 'draining'> {
  const { genesis, founder, draining = false } = state.mesh;
  return {
    mesh,
    name: genesis?.name ?? '',
    founder: founder ?? '',
    paused: isHalted(state.mesh),
    draining,
  };
}

/** What the log alone tells of a member. */
export const memberFacts = ({
  peer,
  name,
  owner,
  roles,
}: MemberRecord): Pick<NodeObject, 'id' | 'name' | 'owner' | 'roles' | 'code'> => ({
  id: peer,
  name,
  owner,
  roles,
  code: null,
});

/** Members, and those revoked; who left or was refused is in the log only. */
export const shownMembers = ({ byPeer }: Members): MemberRecord[] =>
  [...byPeer.values()].filter(({ standing }) => standing === 'active' || standing === 'revoked');

/** The member of this name or peer id, else the one last revoked that had it. Throws `SF_NOT_FOUND`. */
export function findMember(members: Members, nameOrPeer: string): MemberRecord {
  const { byName, byPeer } = members;
  const known =
    byPeer.get(byName.get(nameOrPeer) ?? nameOrPeer) ?? formerMember(members, nameOrPeer, ['revoked']);
  if (known?.standing === 'active' || known?.standing === 'revoked') return known;
  throw new SuperfleetError('SF_NOT_FOUND', `no member has the name or id ${nameOrPeer}`, {
    hint: 'mesh-hub node list',
  });
}

/** Who last had this name and is no member any more. */
export function formerMember(
  { byPeer }: Members,
  name: string,
  standings: MemberRecord['standing'][] = ['revoked', 'left'],
): MemberRecord | null {
  const had = [...byPeer.values()].filter(
    (member) => member.name === name && standings.includes(member.standing),
  );
  return had.at(-1) ?? null;
}
