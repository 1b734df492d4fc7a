import type { Actor } from '../../../ledger/lines/events.ts';
import { activeMembers } from '../../../ledger/state/members.ts';
import type { TaskRecord } from '../../../ledger/state/task-record.ts';
import { newTask } from '../../../ledger/state/tasks.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import type { Schedule } from '../../../protocol/schedule.ts';
import type { TaskSpec } from '../../../protocol/task.ts';
import type { FounderContext } from '../context.ts';
import { requireAdmissible } from '../intake/submission.ts';
import { lacksForGood } from '../placement/for-good.ts';
import { tooFew } from '../trust/agree.ts';
import { why, whyNew } from './why.ts';
import type { Why } from './why-answer.ts';

type Asked = { spec: TaskSpec; schedule?: Schedule | undefined };

/** Machines named in an error. */
const NAMED_MAX = 4;

/** What would come of a submission, without one. */
export interface DryRun extends Omit<Why, 'task'> {
  task: null;
  /** Why it would be refused unless it may wait for machines that are not there; null: it would not be for that. */
  unmet: string | null;
}

/** Where this task would be, were it sent now. Reads what is known and changes nothing. */
export function dryRun(ctx: FounderContext, by: Actor, { spec, schedule }: Asked): DryRun {
  requireAdmissible(ctx, by, { spec, schedule });
  const task = unsent(ctx, by, { spec, schedule });
  const answer = whyNew(ctx, task);
  const { group } = schedule ?? {};
  if (group !== undefined) {
    const others = [...ctx.state.tasks.open].filter(
      (id) => ctx.state.tasks.byId.get(id)?.schedule?.group?.name === group.name,
    );
    if (others.length >= group.limit) {
      answer.reasons.push(
        `${others.length} open ${others.length === 1 ? 'task' : 'tasks'} of its group ${group.name} before it; at most ${group.limit} may run at one time`,
      );
    }
  }
  try {
    ctx.room.require(by, 1, ctx.config, ctx.now);
  } catch (thrown) {
    if (!(thrown instanceof SuperfleetError)) throw thrown;
    answer.reasons.unshift(`it would be refused: ${thrown.message} (${thrown.expected})`);
  }
  return { ...answer, task: null, unmet: unmet(ctx, by, { spec, schedule }) };
}

/** Throws `SF_UNMET` where no machine of the mesh, online or not, can ever take it as the machines are. */
export function requireMet(ctx: FounderContext, by: Actor, asked: Asked): void {
  const words = unmet(ctx, by, asked);
  if (words === null) return;
  const { replicas } = asked.schedule ?? {};
  const whole = replicas === undefined ? 'no machine' : `not enough machines (${replicas})`;
  throw new SuperfleetError('SF_UNMET', `${whole} of this mesh can ever take it`, {
    expected: 'constraints that one of its workers meets, online or not',
    got: words,
    hint: 'mesh-hub node list says what there is; --allow-waiting queues it for a machine that comes later',
  });
}

/** What a task that was just sent waits for, where that is not others or time; null: nothing, or a machine that will do. */
export function waitsFor(ctx: FounderContext, id: string): string | null {
  const { wait, reasons } = why(ctx, id);
  return wait === 'noFit' || wait === 'secret' ? reasons.join('; ') : null;
}

const unsent = (ctx: FounderContext, by: Actor, { spec, schedule }: Asked): TaskRecord =>
  newTask(
    { task: '', correlation: '', spec, rerunOf: null, by, ...(schedule === undefined ? {} : { schedule }) },
    { number: ctx.state.tasks.count, time: ctx.clock.time },
  );

/** What each worker lacks for good, in words; null: one has it all or has not said yet what it has, or there is no worker. */
function unmet(ctx: FounderContext, by: Actor, asked: Asked): string | null {
  const few = tooFew(ctx, unsent(ctx, by, asked));
  if (few !== null) return few;
  const workers = activeMembers(ctx.state.members).filter(({ roles }) => roles.includes('worker'));
  const lacks: string[] = [];
  for (const member of workers) {
    const lack = lacksForGood(ctx, unsent(ctx, by, asked), member);
    if (lack === null) return null;
    lacks.push(`${member.name} ${lack}`);
  }
  if (lacks.length === 0) return null;
  const more = lacks.length - NAMED_MAX;
  return `${lacks.slice(0, NAMED_MAX).join('; ')}${more > 0 ? `; and ${more} more` : ''}`;
}
