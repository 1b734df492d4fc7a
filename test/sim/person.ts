import { openQuestion, type TaskRecord } from '../../ledger/state/task-record.ts';
import { trustRecord } from '../../ledger/state/trust.ts';
import { acknowledge } from './faults.ts';
import { Random } from './random.ts';
import type { World } from './world.ts';

/** By number: what came through a snapshot may stand in another order. */
const inOrder = (tasks: Iterable<TaskRecord>): TaskRecord[] => [...tasks].sort((a, b) => a.number - b.number);

/** Whoever was found to lie so often is not trusted again. */
const patience = 4;

/** A person trusts machines in quarantine again, or shuts them out in the end, and vouches for one at times. */
function trust(world: World, random: Random): void {
  const members = [...world.founder.core!.state.members.byPeer.values()]
    .filter(({ standing, roles }) => standing === 'active' && roles.includes('worker'))
    .sort((a, b) => (a.peer < b.peer ? -1 : 1));
  for (const { peer, quarantined } of members) {
    if (quarantined === undefined || !random.chance(0.3)) continue;
    const again = trustRecord(world.founder.core!.state.trust, peer).invalid >= patience;
    if (again) world.ask({ op: 'member.revoke', member: peer, reason: 'it lies' });
    else world.ask({ op: 'member.trust', member: peer, vouched: random.chance(0.3) });
  }
  if (members.length === 0 || !random.chance(0.05)) return;
  world.ask({ op: 'member.trust', member: random.pick(members).peer, vouched: true });
  world.ask({ op: 'trust.sampling', on: random.chance(0.7) });
}

/**
 * A person who looks in now and then: answers what models ask, or stops the task, goes on from what they leave half done, and says
 * which machines may be trusted.
 */
export function attend(world: World, seed: number): void {
  const random = new Random(`${seed}/person`);
  const seen = new Set<string>();
  const look = (): void => {
    const { core, machine } = world.founder;
    if (core !== null && !machine.frozen) {
      trust(world, random);
      for (const { id, state, partial } of inOrder(core.state.tasks.byId.values())) {
        const asks = state === 'queued' && openQuestion(core.state.tasks.byId.get(id)!) !== null;
        if (asks && random.chance(0.15)) world.ask({ op: 'task.stop', task: id });
        else if (asks) world.ask({ op: 'task.answer', task: id, text: 'as you think best' });
        if (partial === undefined || state !== 'failed' || seen.has(id) || !world.faulty) continue;
        seen.add(id);
        if (random.chance(0.3)) continue;
        const text = random.chance(0.5) ? 'and now the rest' : null;
        world.ask({ op: 'task.continue', task: id, text }, (result) => acknowledge(world, result));
      }
    }
    world.schedule.after(random.between(1_000, 8_000), look);
  };
  look();
}
