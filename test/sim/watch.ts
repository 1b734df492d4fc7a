import type { HeldEffect } from '../../hub/core/types.ts';
import { canonicalJson } from '../../ledger/lines/canonical-json.ts';
import { initialState, replay, saveState } from '../../ledger/state/state.ts';
import { type Assignment, leaseKey } from '../../protocol/session.ts';
import type { MemberHost } from './member-host.ts';
import { Violation } from './violation.ts';
import type { World } from './world.ts';

/** Promise 1: what leaves the founder rests on entries that are durable. */
export function checkReleased(world: World, effect: HeldEffect): void {
  if (effect.after >= world.founder.durable)
    throw new Violation('1 durable first', `a ${effect.type} left before entry ${effect.after} was durable`);
  if (effect.type !== 'send' || effect.message.type !== 'assign') return;
  const { assignment } = effect.message;
  world.leases.given(assignment);
  if (!world.log.gave(assignment.nonce))
    throw new Violation('1 durable first', 'an assignment left before its entry was durable');
}

/** Promise 15: a person was told that the task is stopped; soon nothing of it runs on any machine that could be told. */
export function checkStopped(world: World, task: string): void {
  const since = world.schedule.now;
  world.schedule.after(1_000, () => {
    for (const { member, assignment } of running(world, since))
      if (assignment.task === task)
        throw new Violation(
          '15 stops',
          `${world.nameOf(member.peer)} runs ${leaseKey(assignment)}, which was stopped`,
        );
  });
}

/** Promise 15: a second after the operator was told, nothing runs on any machine that could be told. */
export function checkPaused(world: World, since: number): void {
  if (world.pausedAt !== since) return;
  for (const { member, assignment } of running(world, since))
    throw new Violation(
      '15 stops',
      `${world.nameOf(member.peer)} runs ${leaseKey(assignment)} in a paused mesh`,
    );
}

/** What runs, and is not being stopped, on machines that have been well since then, as the founder and their ways have. */
function* running(world: World, since: number): Iterable<{ member: MemberHost; assignment: Assignment }> {
  if (world.founder.machine.disturbedAt >= since) return;
  for (const member of world.members.values()) {
    const link = world.ways.links.get(member.peer)!;
    const { alive, frozen, disturbedAt } = member.machine;
    const well = alive && !frozen && disturbedAt < since && world.ways.reachable(member.peer);
    if (!well || link.disturbedAt >= since || (link.loss ?? 0) > 0 || !member.core?.online) continue;
    for (const { assignment, stopping } of member.running.values())
      if (!stopping) yield { member, assignment };
  }
}

/** Promise 9: state is reduce(entries); what the founder decides on is what anybody reads from its log. */
export function checkReplay({ founder }: World): void {
  const { core } = founder;
  if (core === null) return;
  // What came through a snapshot has its keys in the canonical order.
  const text: (of: unknown) => string = founder.fromSnapshots ? canonicalJson : JSON.stringify;
  const own = text(saveState(core.state));
  const replayed = text(saveState(replay(founder.entries(), initialState(founder.bounds))));
  if (own !== replayed) throw new Violation('9 replay', 'the founder’s state is not the one its log gives');
}
