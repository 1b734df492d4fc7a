import type { Actor } from '../../ledger/lines/events.ts';
import type { Members } from '../../ledger/state/members.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Role } from '../../protocol/ids.ts';
import type { Operation } from './types.ts';

/**
 * What a caller may do: `view` sees the mesh and its machines, `submit` sends work and has what is its own, `read` sees
 * everybody's work and the log, `operate` does everything else.
 */
export type Right = 'view' | 'submit' | 'read' | 'operate';

const GIVEN_BY: Record<Right, readonly Role[]> = {
  view: ['viewer', 'replica', 'submitter', 'operator'],
  submit: ['submitter', 'operator'],
  read: ['viewer', 'replica', 'operator'],
  operate: ['operator'],
};

const NEEDED: Record<Operation['op'], Right> = {
  'task.submit': 'submit',
  'task.submitMany': 'submit',
  'task.dryRun': 'submit',
  'task.stop': 'submit',
  'task.rerun': 'submit',
  'task.answer': 'submit',
  'task.continue': 'submit',
  'task.applied': 'submit',
  'task.get': 'view',
  'task.list': 'view',
  'task.why': 'view',
  'repository.known': 'submit',
  'invite.create': 'operate',
  'member.admit': 'operate',
  'member.reject': 'operate',
  'member.eligible': 'operate',
  'member.rename': 'operate',
  'member.trust': 'operate',
  'trust.show': 'view',
  'trust.sampling': 'operate',
  'member.revoke': 'operate',
  'member.leave': 'operate',
  'node.list': 'view',
  'node.get': 'view',
  'mesh.pause': 'operate',
  'mesh.resume': 'operate',
  'mesh.durability': 'operate',
  durability: 'view',
  'pause.unreached': 'view',
  'mesh.capacity': 'operate',
  capacity: 'view',
  'mesh.policy': 'operate',
  policy: 'view',
  'secret.set': 'operate',
  'secret.remove': 'operate',
  'secret.list': 'submit',
  status: 'view',
  // Each of a plugin's verbs names its own right besides.
  'plugin.read': 'view',
  'plugin.write': 'view',
};

/** Whether this actor has the right: the founder and its own socket have all, a peer has what its roles give. */
export function allowed(members: Members, by: Actor, right: Right): boolean {
  if (by.kind !== 'peer') return true;
  const member = members.byPeer.get(by.peer);
  return member?.standing === 'active' && GIVEN_BY[right].some((role) => member.roles.includes(role));
}

/** Throws `SF_REFUSED` unless the actor may do this. A member may always leave by itself. */
export function requireRight(members: Members, by: Actor, operation: Operation): void {
  const leaves = operation.op === 'member.leave' && by.kind === 'peer' && by.peer === operation.peer;
  const right = NEEDED[operation.op];
  if (!leaves) needRight(members, by, right);
}

/** Throws `SF_REFUSED` with the roles that would do and those there are, unless the actor has the right. */
export function needRight(members: Members, by: Actor, right: Right): void {
  if (allowed(members, by, right)) return;
  const member = by.kind === 'peer' ? members.byPeer.get(by.peer) : undefined;
  throw new SuperfleetError('SF_REFUSED', `the right to ${right} is lacking`, {
    expected: `one of the roles ${GIVEN_BY[right].join(', ')}`,
    got: member?.standing === 'active' ? member.roles.join(', ') || 'no role' : 'no membership',
    hint: 'the operator gives roles with the invite or the approval',
  });
}

/** Whether the actor sent this work, or may read everybody's. */
export const mayRead = (members: Members, by: Actor, submitter: Actor): boolean =>
  allowed(members, by, 'read') ||
  (by.kind === 'peer' && submitter.kind === 'peer' && by.peer === submitter.peer);

/** Throws `SF_REFUSED` unless the actor may see this work. */
export function requireReadable(members: Members, by: Actor, submitter: Actor): void {
  if (mayRead(members, by, submitter)) return;
  throw new SuperfleetError('SF_REFUSED', 'this task was sent by somebody else', {
    expected: `the submitter of the task, or one of the roles ${GIVEN_BY.read.join(', ')}`,
    got: by.kind === 'peer' ? by.peer : by.kind,
  });
}

/** Throws `SF_REFUSED` unless the actor sent this work or operates the mesh. */
export function requireOwnWork(members: Members, by: Actor, submitter: Actor): void {
  if (allowed(members, by, 'operate')) return;
  if (by.kind === 'peer' && submitter.kind === 'peer' && by.peer === submitter.peer) return;
  throw new SuperfleetError('SF_REFUSED', 'this task was sent by somebody else', {
    expected: 'the submitter of the task, or an operator',
    got: by.kind === 'peer' ? by.peer : by.kind,
  });
}
