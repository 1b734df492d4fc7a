import type { z } from 'zod';
import type { Actor, EventType, LogEvent } from '../../ledger/lines/events.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { AttemptRecord, TaskRecord } from '../../ledger/state/task-record.ts';
import type { Overview } from '../../node/api/objects.ts';
import type { RandomBytes } from '../../protocol/ids.ts';
import type { Assignment, AttemptRole } from '../../protocol/session.ts';
import type { FailureReason } from '../../protocol/task.ts';
import type { Usage } from '../../protocol/usage.ts';
import type { Right } from './rights.ts';

/** What a plugin decides on: what the log says, of itself and of everything else, and the time. To be read only. */
export interface PluginView<S> {
  readonly state: MeshState;
  /** Its own part of the state. */
  readonly own: S;
  /** Unix ms, never behind the log's newest entry: windows such as a day are judged by it. */
  readonly time: number;
}

/**
 * Something to be logged once: `object` and `step` name it for good. A plugin asks for it until its state says that it
 * was done, so it may be asked for twice after a crash and is still done once.
 */
export interface PluginCommand {
  object: string;
  step: string;
  event: LogEvent;
}

/** A question that an API route asks of the core. */
export interface PluginRead<S> {
  readonly right: Right;
  readonly body: z.ZodType;
  answer(view: PluginView<S>, body: unknown, by: Actor): unknown;
}

/** A change that a person asks for. */
export interface PluginWrite<S> {
  readonly right: Right;
  readonly body: z.ZodType;
  /** What is to be logged. Throws where the change is not to be; nothing is logged then. */
  decide(view: PluginView<S>, body: unknown, by: Actor): LogEvent[];
  /** The answer, of the state after it. */
  answer(view: PluginView<S>, body: unknown, by: Actor): unknown;
}

/**
 * What the founder does above the queue, in parts that know nothing of each other (design §1). This is the half that
 * decides, without IO; its reducer is in `ledger/state/`, its routes in `hub/plugins/`. One that throws, or asks again for
 * what it was given, is stopped and said so; the mesh goes on without it.
 */
export interface CorePlugin<S = unknown> {
  /** Also of its reducer; its routes are under `/v1/NAME`. */
  readonly name: string;
  readonly version: number;
  /** The log's events that it may append. */
  readonly events: readonly EventType[];
  /** What is due. Level-triggered: asked at every tick, and after steps that logged something. */
  next?(view: PluginView<S>, random: RandomBytes): readonly PluginCommand[];
  readonly reads?: Readonly<Record<string, PluginRead<S>>>;
  readonly writes?: Readonly<Record<string, PluginWrite<S>>>;
  /** Why this task is not given to this member now, in words for `task why`; null: no objection. Of a stopped plugin: it waits. */
  hold?(view: PluginView<S>, task: TaskRecord, member: string): string | null;
  /** Why this queued task is given to nobody until a person changes something here; null: no objection. Of a stopped plugin: none. */
  park?(view: PluginView<S>, task: TaskRecord): string | null;
  /** What an attempt that is about to begin is sent besides its task; null: nothing. */
  enclose?(view: PluginView<S>, task: TaskRecord, to: Recipient): Enclosure | null;
  /** What is to be logged of an attempt before its end is. */
  ending?(
    view: PluginView<S>,
    task: TaskRecord,
    attempt: AttemptRecord,
    said: AttemptSaid,
  ): readonly LogEvent[];
  /**
   * After that, of one that failed: `wait`: nobody is at fault, and it costs no retry; `end`: the task fails, whatever retries it has
   * left; null: as its member said.
   */
  verdict?(
    view: PluginView<S>,
    task: TaskRecord,
    attempt: AttemptRecord,
    said: AttemptSaid,
  ): 'wait' | 'end' | null;
  /** What a person at the founder is told. */
  overview?(view: PluginView<S>): { needs?: Overview['needs']; risks?: string[] };
}

/** Fields of an assignment that plugins may fill. */
export type EnclosedField = 'remembered' | 'allowance';

/** What is known of an attempt that ends. */
export interface AttemptSaid {
  /** Null: its result is accepted. */
  reason: FailureReason | null;
  /** What its member said last; null: nothing. */
  usage: Usage | null;
}

/** Who is given an attempt. */
export interface Recipient {
  readonly member: string;
  readonly role: AttemptRole;
  readonly attempt: number;
  /** What the member understands, from its hello. */
  readonly features: readonly string[];
}

export interface Enclosure {
  readonly fields: Partial<Pick<Assignment, EnclosedField>>;
  /** It bounds the attempt, so it goes along where there is little room, too. @default it is left out then */
  readonly needed?: true;
  /** What is logged of it, after the lease. @default nothing */
  readonly events?: readonly LogEvent[];
}
