import { bundleChain, type Repositories } from '../../../ledger/state/repositories.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import type { Tasks } from '../../../ledger/state/task-set.ts';
import type { Role } from '../../../protocol/ids.ts';
import { bundlesMax } from '../config.ts';
import type { FounderContext } from '../context.ts';
import { submitterDigest } from '../placement/assign.ts';

/** Roles that are trusted with all that the mesh holds. */
const READS_ALL: readonly Role[] = ['operator', 'replica'];

/**
 * Whether the founder hands this blob to this member: the roster, and what it needs for the leases it holds now: the
 * bundles that lead to the base, and to a verifier the result. Other submitters' repositories, logs and results are
 * none of its business, also where it has learned their ids.
 */
export function mayFetch(ctx: FounderContext, peer: string, blob: string): boolean {
  const member = ctx.member(peer);
  if (member === null) return false;
  if (blob === ctx.roster?.blob || member.roles.some((role) => READS_ALL.includes(role))) return true;
  for (const key of ctx.live.get(peer)?.leases ?? []) {
    const { lease, role } = ctx.leases.get(key)!;
    const { accepted, continues, spec } = ctx.task(lease.task);
    if (role === 'execute' && continues?.bundle.blob === blob) return true;
    if (role === 'verify' && accepted?.bundle?.blob === blob) return true;
    const base = spec.repository?.base;
    const chain = base === undefined ? null : bundleChain(ctx.state.repositories, base, bundlesMax);
    if (chain?.some(({ bundle }) => bundle === blob)) return true;
  }
  return false;
}

/** What the founder knows of a lease for which a member asks for a prepared environment. */
export interface EnvironmentLease {
  /** As the assignment names who sent the task. */
  submitter: string;
  repository: string | null;
  /** The founder's own machine executed what this lease verifies: it gives nothing to its verifier. */
  executedHere: boolean;
}

/** The open lease that this member holds of this task; null: none. */
export function environmentLease(ctx: FounderContext, peer: string, task: string): EnvironmentLease | null {
  if (ctx.member(peer) === null) return null;
  for (const key of ctx.live.get(peer)?.leases ?? []) {
    const { lease, role } = ctx.leases.get(key)!;
    if (lease.task !== task) continue;
    const { accepted, by, spec } = ctx.task(task);
    return {
      submitter: submitterDigest(by),
      repository: spec.repository?.id ?? null,
      executedHere: role === 'verify' && accepted?.member === ctx.state.mesh.founder,
    };
  }
  return null;
}

/**
 * Whether this blob is of a result of a task that this member sent, or the bundle that gave that task's base: whoever
 * may run a task on a commit may have it. Looks at the tasks of the state, newest first, for those are asked for, and
 * at `recalled`, which have left it.
 */
export function ownsResult(
  { tasks: { byId }, repositories }: { tasks: Pick<Tasks, 'byId'>; repositories: Repositories },
  peer: string,
  blob: string,
  recalled: Iterable<TaskRecord> = [],
): boolean {
  for (const { by, accepted, spec } of [...recalled, ...byId.values()].reverse()) {
    if (by.kind !== 'peer' || by.peer !== peer || accepted === null) continue;
    if (spec.repository !== null && repositories.get(spec.repository.base)?.bundle === blob) return true;
    if (accepted.bundle?.blob === blob || accepted.artifacts.some((artifact) => artifact.blob === blob))
      return true;
  }
  return false;
}
