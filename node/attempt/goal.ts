import type { WorkDone } from '../../protocol/receipt.ts';
import type { CodeSpec } from '../../protocol/task.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { Taken } from '../git/attempt-repository.ts';
import type { Checkout } from './checkout.ts';
import { type CheckRun, checkAhead, RedCheck, runChecks, tryChecks } from './checks.ts';
import type { AttemptContext, AttemptFacts } from './context.ts';
import { AttemptFailure, asFailure } from './failure.ts';
import { lessonOf } from './lesson.ts';
import { take } from './take.ts';

/** Brains and their loop, as an attempt uses them. */
export interface GoalWorker {
  /** Chooses who is asked. Rejects with an `AttemptFailure` where there is nobody. */
  begin(task: Goal): Promise<Pursuit>;
}

/** A goal in a checkout. */
export interface Goal {
  context: AttemptContext;
  spec: CodeSpec;
  checkout: Checkout;
}

/** Ways to a goal; each call works on until the model is done or stopped, and rejects with an `AttemptFailure` where that says all. */
export interface Pursuit {
  /** What was done so far; null: nobody was asked. */
  readonly done: (Omit<WorkDone, 'files' | 'lesson'> & { note?: string }) | null;
  /** What models were asked so far. */
  readonly usage: Usage;
  /** Why the model was stopped before it was done; null: it was not. Green checks make up for it. */
  readonly stopped: AttemptFailure | null;
  /** `before`: the checks, run on the base. */
  begin(before: readonly CheckRun[]): Promise<void>;
  /** The check is red with what was done. */
  heal(red: CheckRun): Promise<void>;
  /** The workspace is as it was at first, and so is what the model knows but for how the first way ended. */
  otherWay(red: CheckRun): Promise<void>;
}

/**
 * Runs the checks to see what is red, lets a model work until it says that it is done, runs them again with the base's check files,
 * and shows it what is red: as often as the task allows, and once more from the start. What it changed is measured by git each time.
 */
export async function pursueGoal(
  context: AttemptContext,
  spec: CodeSpec,
  checkout: Checkout,
  facts: AttemptFacts,
): Promise<Taken> {
  const { assignment, hooks, log, signal, worker } = context;
  if (worker === null) throw noModel(context.member.name, 'it runs no worker for goals');
  hooks.progress('run', log.bytes);
  hooks.started();
  facts.ran = true;
  // Before anything that takes long: where there is no model, another machine is to have the task.
  const pursuit = await worker.begin({ context, spec, checkout });
  const before = await tryChecks(context, checkout);
  if (before.length > 0) await checkout.repository?.reset(checkout.start, signal);
  const { heals } = spec.code;
  let changes: Taken['changes'] = [];
  let red: CheckRun | null = null;
  const greenBefore = new Set(before.flatMap(({ exitCode }, index) => (exitCode === 0 ? [index] : [])));
  const looked = new Set<number>();
  try {
    await pursuit.begin(before);
    for (let healed = 0, otherWay = false; ; ) {
      hooks.progress('check', log.bytes);
      const taken = await take(context, checkout, () => checkAhead(context, checkout, 0));
      changes = taken.changes;
      red = null;
      facts.checks = [];
      const { stopped } = pursuit;
      if (stopped !== null && (changes.length === 0 || spec.checks.length === 0)) throw stopped;
      try {
        const doubt = { of: 'goal', commit: taken.commit, greenBefore, looked } as const;
        await runChecks(context, checkout, taken.changes, facts, doubt);
        return taken;
      } catch (error) {
        if (error instanceof RedCheck) red = error.run;
        if (error instanceof RedCheck && stopped !== null) throw stopped;
        if (!(error instanceof RedCheck) || (healed >= heals && (otherWay || heals === 0))) throw error;
        hooks.progress('run', log.bytes);
        if (healed < heals) {
          healed += 1;
          await log.say(`mending, ${healed} of ${heals}: ${error.message}`);
          await checkout.repository?.reset(taken.commit, signal);
          await pursuit.heal(error.run);
        } else {
          otherWay = true;
          healed = 0;
          const from = checkout.start === null ? 'base' : 'beginning';
          await log.say(`mending came to nothing; another way, from the ${from} of task ${assignment.task}`);
          await checkout.repository?.reset(checkout.start, signal);
          await pursuit.otherWay(error.run);
        }
      }
    }
  } catch (error) {
    const partial = pursuit.done?.signal?.kind === 'partial_completion';
    if (!partial || !(error instanceof AttemptFailure)) throw error;
    const taken = await takePart(context, checkout);
    changes = taken?.changes ?? changes;
    throw new PartialResult(error, taken);
  } finally {
    facts.usage = pursuit.usage;
    if (pursuit.done !== null) {
      const { note, ...done } = pursuit.done;
      const lesson = lessonOf(changes, before, red, spec.checks);
      if (note !== undefined) lesson.note = note;
      facts.work = { ...done, files: changes.length, lesson };
    }
  }
}

/** A model goes no further: what it did until then, as one commit, is returned with the failure. */
export class PartialResult extends AttemptFailure {
  readonly taken: Taken | null;

  constructor({ reason, fault, message }: AttemptFailure, taken: Taken | null) {
    super(reason, fault, message);
    this.taken = taken;
  }
}

/** What is there of a goal that was not reached; null: nothing that may be returned, and the log says why. */
async function takePart(context: AttemptContext, checkout: Checkout): Promise<Taken | null> {
  try {
    return await take(context, checkout, () => {});
  } catch (error) {
    context.signal.throwIfAborted();
    const why = asFailure(error, context.member.name).message;
    await context.log.say(`what was done so far cannot be returned: ${why}`);
    return null;
  }
}

/** An honest refusal: the machine's lack, which costs the task nothing. */
export const noModel = (member: string, why: string): AttemptFailure =>
  new AttemptFailure('environment', 'machine', `no model on ${member} can work on this: ${why}`);
