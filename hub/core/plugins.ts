import type { z } from 'zod';
import { type Actor, EVENT_BODIES, type LogEvent } from '../../ledger/lines/events.ts';
import { findAttempt, type TaskRecord } from '../../ledger/state/task-record.ts';
import type { Overview } from '../../node/api/objects.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { FounderContext } from './context.ts';
import type { AttemptSaid, CorePlugin, Enclosure, PluginView, Recipient } from './plugin.ts';
import { needRight } from './rights.ts';

/** Commands of one plugin in one step; the rest is due in the next. */
const commandsMax = 64;
/** Commands remembered of one plugin, so that one it repeats is noticed. */
const rememberedMax = 4_096;

type Running = { plugin: CorePlugin; done: Set<string>; stopped: string | null };

/** The plugins of a founder core. Each is handed its own state and what it is asked; none knows of another. */
export class Plugins {
  readonly #running: readonly Running[];
  /** Size of the log when they were last asked what is due. */
  #askedAt = -1;

  constructor(plugins: readonly CorePlugin[]) {
    this.#running = plugins.map((plugin) => ({ plugin, done: new Set(), stopped: null }));
  }

  /** Logs what is due. Called at the end of each step that may have decided something. */
  next(ctx: FounderContext, ticking: boolean): void {
    if (!ticking && ctx.state.mesh.size === this.#askedAt) return;
    for (const running of this.#running) this.#guarded(running, () => this.#due(ctx, running));
    this.#askedAt = ctx.state.mesh.size;
  }

  #due(ctx: FounderContext, { plugin, done }: Running): void {
    const due = plugin.next?.(viewOf(ctx, plugin), ctx.clock.random) ?? [];
    for (const { object, step, event } of due.slice(0, commandsMax)) {
      const id = JSON.stringify([object, step]);
      if (done.has(id)) throw new Error(`it asks again for ${step} of ${object}, which was done`);
      append(ctx, plugin, [event]);
      if (done.size >= rememberedMax) done.delete(done.values().next().value!);
      done.add(id);
    }
  }

  /** Throws what the plugin throws, `SF_REFUSED`, or `SF_NOT_FOUND` where there is none of this name. */
  read(ctx: FounderContext, by: Actor, name: string, verb: string, body: unknown): unknown {
    const running = this.#find(name);
    const { plugin } = running;
    const read = plugin.reads?.[verb];
    if (read === undefined) throw unknownVerb(name, verb);
    needRight(ctx.state.members, by, read.right);
    const asked = parsed(read.body, body);
    return this.#answering(running, () => read.answer(viewOf(ctx, plugin), asked, by));
  }

  /** The same of a change, which is logged whole or not at all. */
  write(ctx: FounderContext, by: Actor, name: string, verb: string, body: unknown): unknown {
    const running = this.#find(name);
    const { plugin } = running;
    const write = plugin.writes?.[verb];
    if (write === undefined) throw unknownVerb(name, verb);
    needRight(ctx.state.members, by, write.right);
    const asked = parsed(write.body, body);
    return this.#answering(running, () => {
      append(ctx, plugin, write.decide(viewOf(ctx, plugin), asked, by));
      return write.answer(viewOf(ctx, plugin), asked, by);
    });
  }

  /** Why this member is not given this task now; null: no plugin objects. */
  hold(ctx: FounderContext, task: TaskRecord, member: string): string | null {
    for (const running of this.#running) {
      const { plugin } = running;
      if (plugin.hold === undefined) continue;
      const held = this.#guarded(running, () => plugin.hold!(viewOf(ctx, plugin), task, member));
      if (running.stopped !== null) return `the plugin ${plugin.name}, which decides on it, has stopped`;
      if (held != null) return held;
    }
    return null;
  }

  /** Why this queued task waits for a person; null: no plugin objects. */
  park(ctx: FounderContext, task: TaskRecord): string | null {
    for (const running of this.#running) {
      const { plugin } = running;
      if (plugin.park === undefined) continue;
      const parked = this.#guarded(running, () => plugin.park!(viewOf(ctx, plugin), task));
      if (parked !== null) return parked;
    }
    return null;
  }

  /** What an attempt is sent besides its task, and what of that bounds it; `log` is called once its lease is logged. */
  enclose(
    ctx: FounderContext,
    task: TaskRecord,
    to: Recipient,
  ): { fields: Enclosure['fields']; needed: Enclosure['fields']; log(whole: boolean): void } {
    const enclosed = this.#running.flatMap((running) => {
      const made = this.#guarded(running, () =>
        running.plugin.enclose?.(viewOf(ctx, running.plugin), task, to),
      );
      return made == null ? [] : [{ running, made }];
    });
    const fieldsOf = (of: typeof enclosed): Enclosure['fields'] =>
      Object.assign({}, ...of.map(({ made }) => made.fields));
    const needed = enclosed.filter(({ made }) => made.needed === true);
    return {
      fields: fieldsOf(enclosed),
      needed: fieldsOf(needed),
      log: (whole) => {
        for (const { running, made } of whole ? enclosed : needed)
          this.#guarded(running, () => append(ctx, running.plugin, made.events ?? []));
      },
    };
  }

  /** The attempt is about to end so: what plugins say to its failure, the strictest of them. */
  ending(ctx: FounderContext, task: TaskRecord, number: number, said: AttemptSaid): 'wait' | 'end' | null {
    const attempt = findAttempt(task, number);
    if (attempt === null) return null;
    const verdicts = this.#running.map((running) =>
      this.#guarded(running, () => {
        const { plugin } = running;
        const due = plugin.ending?.(viewOf(ctx, plugin), task, attempt, said) ?? [];
        append(ctx, plugin, due);
        // What follows from it stands before the end, too, after which the task may be forgotten.
        if (due.length > 0) this.#due(ctx, running);
        return said.reason === null ? null : plugin.verdict?.(viewOf(ctx, plugin), task, attempt, said);
      }),
    );
    if (verdicts.includes('end')) return 'end';
    return verdicts.includes('wait') ? 'wait' : null;
  }

  /** What a person at the founder is told, stopped plugins first. */
  overview(ctx: FounderContext): { needs: Overview['needs']; risks: string[] } {
    const told = this.#running.map((running) =>
      this.#guarded(running, () => running.plugin.overview?.(viewOf(ctx, running.plugin))),
    );
    const stopped = this.#running.flatMap(({ plugin, stopped }) =>
      stopped === null ? [] : [`the plugin ${plugin.name} has stopped until the next start: ${stopped}`],
    );
    return {
      needs: told.flatMap((one) => one?.needs ?? []),
      risks: [...stopped, ...told.flatMap((one) => one?.risks ?? [])],
    };
  }

  /** A plugin that fails is asked nothing more; null: it has failed, now or before. */
  #guarded<T>(running: Running, ask: () => T): T | null {
    if (running.stopped !== null) return null;
    try {
      return ask();
    } catch (thrown) {
      const known = asSuperfleetError(thrown);
      // What it logged has been applied in part: only the log can tell what is true.
      if (known.code === 'SF_LOG_DAMAGED') throw thrown;
      running.stopped = (thrown as Error).message;
      return null;
    }
  }

  /** What a plugin refuses is the asker's; what it breaks at is its own. */
  #answering<T>(running: Running, ask: () => T): T {
    try {
      return ask();
    } catch (thrown) {
      if (thrown instanceof SuperfleetError && thrown.code !== 'SF_INTERNAL') throw thrown;
      running.stopped = (thrown as Error).message;
      this.#find(running.plugin.name);
      throw thrown;
    }
  }

  #find(name: string): Running {
    const running = this.#running.find(({ plugin }) => plugin.name === name);
    if (running === undefined) {
      throw new SuperfleetError('SF_NOT_FOUND', `there is no plugin ${name}`, {
        expected: this.#running.map(({ plugin }) => plugin.name).join(', ') || 'none is switched on',
        got: name,
      });
    }
    if (running.stopped === null) return running;
    throw new SuperfleetError('SF_CONFLICT', `the plugin ${name} has stopped`, {
      expected: 'a plugin that runs',
      got: running.stopped,
      hint: 'start the founder anew, and report what is said here',
    });
  }
}

function viewOf(ctx: FounderContext, plugin: CorePlugin): PluginView<unknown> {
  const { state, clock } = ctx;
  const time = Math.max(state.mesh.time, Math.floor(clock.time));
  return { state, own: state.plugins.get(plugin.name), time };
}

/** All of them or, where one is not to be logged, none. */
function append(ctx: FounderContext, plugin: CorePlugin, events: readonly LogEvent[]): void {
  for (const { type, body } of events) {
    if (!plugin.events.includes(type)) {
      throw new Error(`it may not log ${type}, only ${plugin.events.join(', ')}`);
    }
    EVENT_BODIES[type].parse(body);
  }
  for (const event of events) ctx.append(event);
}

function parsed(schema: z.ZodType, body: unknown): unknown {
  const checked = schema.safeParse(body);
  if (checked.success) return checked.data;
  const [issue] = checked.error.issues;
  throw new SuperfleetError('SF_USAGE', `${issue!.path.join('.') || 'the request'}: ${issue!.message}`);
}

const unknownVerb = (name: string, verb: string): SuperfleetError =>
  new SuperfleetError('SF_NOT_FOUND', `the plugin ${name} knows no ${verb}`);
