import { openQuestion, type TaskRecord } from '../../ledger/state/task-record.ts';
import { acknowledge } from './faults.ts';
import { Random } from './random.ts';
import type { World } from './world.ts';

/** By number: what came through a snapshot may stand in another order. */
const inOrder = (tasks: Iterable<TaskRecord>): TaskRecord[] => [...tasks].sort((a, b) => a.number - b.number);

/** A person who looks in now and then: answers what models ask, or stops the task, and goes on from what they leave half done. */
export function attend(world: World, seed: number): void {
  const random = new Random(`${seed}/person`);
  const seen = new Set<string>();
  const look = (): void => {
    const { core, machine } = world.founder;
    if (core !== null && !machine.frozen) {
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
