import type { Actor } from '../../../ledger/lines/events.ts';
import type { CapacityObject } from '../../../node/api/objects.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { elasticAfterMs } from '../config.ts';
import type { FounderContext } from '../context.ts';
import { freeSlots } from '../members/live-member.ts';
import { unavailable } from './fit.ts';

/**
 * How many attempts may run in the whole mesh (docs/decisions/capacity.md). `ring`: at any time. `elastic`: so many while
 * tasks have waited for `elasticAfterMs` that a free slot could take; back at the ring when nothing waits any more.
 */
export interface Bounds {
  ring: number;
  elastic: number;
}

/** As the operator has set them in the log, else those of the founder's config. */
export function boundsOf({ state, config }: FounderContext): Bounds {
  return (
    state.mesh.capacity ?? {
      ring: config.ringSlots,
      elastic: Math.max(config.ringSlots, config.elasticSlots),
    }
  );
}

/** The bound that holds now. */
export function boundNow(ctx: FounderContext): number {
  const { ring, elastic } = boundsOf(ctx);
  return isGrown(ctx) ? elastic : ring;
}

/** Whether another attempt may run; attempts of both roles count. */
export const ringHasRoom = (ctx: FounderContext): boolean => ctx.leases.size < boundNow(ctx);

const isGrown = ({ heldSince, now }: FounderContext): boolean =>
  heldSince !== null && now - heldSince >= elasticAfterMs;

/** After a round of dispatch: whether only the bound keeps a task from a free slot. Grown, it stays so until nothing could run. */
export function noteHeld(ctx: FounderContext, held: boolean): void {
  if (held) ctx.heldSince ??= ctx.now;
  else ctx.heldSince = null;
}

/** When the mesh grows past the ring for what waits (monotonic); null: it has, it cannot, or nothing is held back. */
export function growsAt(ctx: FounderContext): number | null {
  const { ring, elastic } = boundsOf(ctx);
  return ctx.heldSince === null || isGrown(ctx) || elastic <= ring ? null : ctx.heldSince + elasticAfterMs;
}

/** Free slots of machines that may be given work now. */
export function idleSlots(ctx: FounderContext): number {
  let idle = 0;
  for (const live of ctx.live.values()) {
    const member = ctx.member(live.peer);
    if (member !== null && unavailable(member, live) === null) idle += Math.max(0, freeSlots(live));
  }
  return idle;
}

/** Whether machines idle because the mesh may run no more: it does not grow any further by itself. */
export const isCapped = (ctx: FounderContext): boolean =>
  ctx.heldSince !== null && growsAt(ctx) === null && !ringHasRoom(ctx) && idleSlots(ctx) > 0;

/** What the mesh may run, and what it does. `held`: the bound keeps tasks from slots that are free. */
export function capacityObject(ctx: FounderContext): CapacityObject {
  const { ring, elastic } = boundsOf(ctx);
  return {
    ring,
    elastic,
    set: ctx.state.mesh.capacity !== undefined,
    bound: boundNow(ctx),
    running: ctx.leases.size,
    idle: idleSlots(ctx),
    held: isCapped(ctx),
  };
}

/** The command that lets every free slot be used. */
export function raiseCommand(ctx: FounderContext): string {
  const { ring } = boundsOf(ctx);
  return `mesh-hub capacity set --elastic ${Math.max(ring, ctx.leases.size + idleSlots(ctx))}`;
}

/** Sets what is given; the elastic bound never is below the ring. Throws `SF_USAGE` where both contradict. */
export function setCapacity(ctx: FounderContext, by: Actor, asked: Partial<Bounds>): CapacityObject {
  const now = boundsOf(ctx);
  const ring = asked.ring ?? now.ring;
  const elastic = asked.elastic ?? Math.max(ring, now.elastic);
  if (elastic < ring) {
    throw new SuperfleetError('SF_USAGE', 'the elastic bound is below the ring', {
      expected: `--elastic of at least ${ring}, the ring`,
      got: String(elastic),
      hint: `mesh-hub capacity set --ring ${elastic} --elastic ${elastic}`,
    });
  }
  const { capacity } = ctx.state.mesh;
  if (capacity?.ring !== ring || capacity.elastic !== elastic) {
    ctx.append({ type: 'mesh.capacity', body: { ring, elastic, by } });
    ctx.fleet += 1;
  }
  return capacityObject(ctx);
}
