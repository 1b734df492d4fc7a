import type { Actor } from '../../../ledger/lines/events.ts';
import type { PolicyDefaultObject } from '../../../node/api/objects.ts';
import { POLICY_FEATURE } from '../../../protocol/session.ts';
import { type Asked, declined, type Terms, termsOf } from '../../../protocol/terms.ts';
import type { FounderContext } from '../context.ts';
import type { LiveMember } from './live-member.ts';

/** The default of all machines' policies, as the operator has set it in the log; null: none, which asks nothing. */
const defaultOf = ({ state }: FounderContext): string | null => state.mesh.policy ?? null;

const keepsIt = (live: LiveMember): boolean => live.features.includes(POLICY_FEATURE);

export const policyDefault = (ctx: FounderContext): PolicyDefaultObject => ({
  policy: defaultOf(ctx),
  older: [...ctx.live.values()]
    .filter((live) => live.session !== null && !keepsIt(live))
    .flatMap(({ peer }) => ctx.member(peer)?.name ?? [])
    .sort(),
});

/** Sets it, null: none; every member that knows of such a thing is told. */
export function setPolicyDefault(ctx: FounderContext, by: Actor, policy: string | null): PolicyDefaultObject {
  if (policy !== defaultOf(ctx)) {
    ctx.append({ type: 'mesh.policy', body: { policy, by } });
    for (const live of ctx.live.values()) {
      if (keepsIt(live)) ctx.send(live.peer, { type: 'policy', policy });
    }
    // What fitted nobody may fit somebody now, and the other way round.
    ctx.fleet += 1;
    ctx.pool.forget();
  }
  return policyDefault(ctx);
}

/**
 * Why the default keeps this from a machine, to be read after its name; null: it does not. When it lets machines work is judged
 * there; what it lets them take is known here, before they have said so.
 */
export function declinedByMesh(ctx: FounderContext, asked: Asked, live: LiveMember): string | null {
  const policy = defaultOf(ctx);
  if (policy === null || policy === 'always') return null;
  if (!keepsIt(live)) return 'runs an older release, which does not keep the mesh’s policy';
  const terms = termsKept(policy);
  return terms === null ? null : declined(terms, asked, 'the mesh’s policy');
}

/** Whether a member must be told who sent a task, to judge by what the default lets it take. */
export const namesSenders = (ctx: FounderContext, live: LiveMember): boolean =>
  defaultNamesSenders(ctx) && keepsIt(live);

/** Whether the default tells tasks apart by who sent them. */
export function defaultNamesSenders(ctx: FounderContext): boolean {
  const policy = defaultOf(ctx);
  return policy !== null && termsKept(policy)?.submitters !== undefined;
}

let kept: { policy: string; terms: Terms | null } | null = null;
/** It is asked for each decision, and almost never changes. */
const termsKept = (policy: string): Terms | null => {
  if (kept?.policy !== policy) kept = { policy, terms: termsOf(policy) };
  return kept.terms;
};
