import { activeMembers, type MemberRecord, nameOf } from '../../../ledger/state/members.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { type AttemptResult, REPLICAS_FEATURE } from '../../../protocol/session.ts';
import { artifactsDigest } from '../../../protocol/task.ts';
import type { FounderContext, LiveLease } from '../context.ts';
import { dropLease, endLease, settle } from '../lifecycle.ts';
import { countSuccess } from '../members/back-off.ts';
import type { LiveMember } from '../members/live-member.ts';
import { mismatch } from '../placement/fit.ts';
import { lacksForGood } from '../placement/for-good.ts';
import { needOf } from '../queue/queue.ts';
import type { VerificationFacts } from '../results/checks.ts';

/** Machines that may come to something else before it is said that they do not agree. */
const othersMax = 1;

/** Whether nothing of the task goes out that no other party has verified. */
export const mustVerify = ({ spec, schedule }: Pick<TaskRecord, 'spec' | 'schedule'>): boolean =>
  spec.requireVerified || schedule?.replicas !== undefined;

/** A secret without which no other machine can run its command as it was run; null: none, or nobody runs it again. */
export const secretMissing = (ctx: FounderContext, { schedule, spec }: TaskRecord): string | null =>
  schedule?.replicas === undefined ? null : (spec.secrets.find((name) => !ctx.secrets.has(name)) ?? null);

/** What a verifier is sent besides, where it is to run the command itself. */
export function replicaOf({ accepted, schedule }: TaskRecord) {
  if (schedule?.replicas === undefined || accepted === null) return {};
  const { artifacts, log } = accepted;
  return { replica: { artifacts: artifactsDigest(artifacts), log: log?.sha256 ?? null } };
}

/** Why this member may not be one of the machines that are to agree on the task; null: it may, or nobody asked for that. */
export function replicaMismatch(ctx: FounderContext, task: TaskRecord, member: MemberRecord): string | null {
  const { schedule, verification, replicas = [] } = task;
  if (schedule?.replicas === undefined) return null;
  if (replicas.some((said) => said.member === member.peer) || verification?.member === member.peer)
    return 'ran it, and has said what it makes';
  const live = ctx.live.get(member.peer);
  if (live?.capacity != null && !live.features.includes(REPLICAS_FEATURE))
    return 'runs an older release, which verifies without running the command itself';
  const need = { ...needOf(task), avoid: [], unfit: [] };
  return mismatch(need, member, live, ctx.labelsGiven(member.peer), ctx.lentTo(member.peer));
}

/** Of these, where there are any, the ones of owners who have no machine among those that have spoken. */
export function apart(ctx: FounderContext, task: TaskRecord, from: LiveMember[]): LiveMember[] {
  if (task.schedule?.replicas === undefined) return from;
  const ownerOf = (peer: string): string | null => ctx.state.members.byPeer.get(peer)?.owner ?? null;
  const spoken = new Set((task.replicas ?? []).map(({ member }) => ownerOf(member)));
  const others = from.filter(({ peer }) => !spoken.has(ownerOf(peer)));
  return others.length > 0 ? others : from;
}

interface Word {
  result: AttemptResult;
  digest: string;
  facts: VerificationFacts;
  envelope: string;
  passed: boolean;
  detail: string | null;
}

/** Takes the word of a machine that ran the command itself. False: it decides, and is to be logged as the verification. */
export function replicaSays(ctx: FounderContext, lease: LiveLease, word: Word): boolean {
  const { result, digest, facts, envelope, passed, detail } = word;
  const { task: id, attempt } = lease.lease;
  const task = ctx.task(id);
  const { replicas = [], schedule, accepted } = task;
  // A clock that ran out on a slower machine is no difference, and green checks alone are no agreement.
  const says = passed ? facts.replica === true : result.reason === 'check';
  if (!says) {
    const reason = result.reason ?? 'environment';
    const why = passed ? 'it did not run the command itself' : detail;
    endLease(ctx, lease, { fault: 'machine', reason, detail: why, cancel: null });
    return true;
  }
  const agreed = 1 + replicas.filter(({ agrees }) => agrees).length + (passed ? 1 : 0);
  const others = replicas.filter(({ agrees }) => !agrees).length + (passed ? 0 : 1);
  if (agreed >= (schedule?.replicas ?? 2) || others > othersMax) return false;
  const { correlation, member } = lease;
  const { receipt } = accepted!;
  ctx.append({
    type: 'task.replicated',
    body: {
      task: id,
      attempt,
      correlation,
      receipt,
      verification: digest,
      envelope,
      agrees: passed,
      detail: passed ? null : (detail?.slice(0, 2048) ?? null),
    },
  });
  dropLease(ctx, lease);
  countSuccess(ctx, member);
  settle(ctx, task);
  return true;
}

/** Which machines came to something else, in words; null: nobody asked for replicas, or they agree. */
export function disagreement(ctx: FounderContext, task: TaskRecord): string | null {
  const { replicas = [], schedule, verification, accepted } = task;
  if (schedule?.replicas === undefined || verification?.passed !== false) return null;
  const { members } = ctx.state;
  const others = [...replicas.filter(({ agrees }) => !agrees), verification];
  const said = others.map(({ member, detail }) => `${nameOf(members, member)}: ${detail ?? 'no detail'}`);
  const agreed = 1 + replicas.filter(({ agrees }) => agrees).length;
  return `the machines that ran it do not agree: ${agreed} of the ${schedule.replicas} that are to make the same as ${nameOf(members, accepted!.member)} did; ${said.join('; ')}`;
}

/** How far the machines of a task that waits for more have agreed; null: nobody asked for replicas. */
export function agreementWords({ replicas = [], schedule }: TaskRecord): string | null {
  if (schedule?.replicas === undefined) return null;
  const agreed = 1 + replicas.filter(({ agrees }) => agrees).length;
  const others = replicas.length + 1 - agreed;
  const differ = others === 0 ? '' : `, ${others} made something else`;
  return `done; ${agreed} of ${schedule.replicas} machines make the same so far${differ}`;
}

/** Why so many machines as are to agree on it can never be had as the machines are; null: they can, or nobody asked for that. */
export function tooFew(ctx: FounderContext, task: TaskRecord): string | null {
  const { replicas } = task.schedule ?? {};
  if (replicas === undefined) return null;
  const workers = activeMembers(ctx.state.members).filter(({ roles }) => roles.includes('worker'));
  const able = workers.filter((member) => lacksForGood(ctx, task, member) === null);
  const owners = new Set(activeMembers(ctx.state.members).map(({ owner }) => owner)).size;
  // Whoever executes it has none of its owner's machines beside it, where there are others.
  const best = able.map((executor) => {
    const beside = able.filter(({ owner }) => owners < 2 || owner !== executor.owner);
    return 1 + beside.filter((member) => member !== executor && may(ctx, member)).length;
  });
  const most = Math.max(0, ...best);
  if (most >= replicas) return null;
  const whose = owners > 1 ? ', none of them of the owner of the one that executes it' : '';
  return `${replicas} machines are to agree${whose}, and ${most} can ever take it`;
}

function may(ctx: FounderContext, { peer }: MemberRecord): boolean {
  const live = ctx.live.get(peer);
  return live?.capacity == null || live.features.includes(REPLICAS_FEATURE);
}
