import type { Actor } from '../../../ledger/lines/events.ts';
import type { MemberRecord } from '../../../ledger/state/members.ts';
import type { DurabilityObject, ReplicaLine } from '../../../node/api/objects.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import type { Place } from '../../../protocol/session.ts';
import type { FounderContext } from '../context.ts';

/** A replica that lacks more entries than this is far behind: that is more than the work of minutes. */
export const farBehindEntries = 1_000;
/** Replicas whose places are told of. */
const placesMax = 16;
/** One that stays so for this long is warned of; catching up with a long log takes less. */
export const farBehindMs = 60_000;

/** Entries that the founder's disk holds. */
const durableSize = (ctx: FounderContext): number => (ctx.durable?.index ?? -1) + 1;

const keepsLog = (ctx: FounderContext, { peer, roles, standing }: MemberRecord): boolean =>
  standing === 'active' && roles.includes('replica') && peer !== ctx.state.mesh.founder;

/** Entries that a member's copy is behind what is durable here; null: it keeps none, or follows nobody now. */
export function lagOf(ctx: FounderContext, member: MemberRecord): number | null {
  if (member.roles.includes('replica') && member.peer === ctx.state.mesh.founder) return 0;
  const held = keepsLog(ctx, member) ? ctx.replicas.get(member.peer) : undefined;
  return held === undefined ? null : Math.max(0, durableSize(ctx) - held);
}

/**
 * Takes up where the replicas listen that follow now; whether that is news. One that went is still told of, at its last
 * place, as long as it is a replica: members keep what they are told, and may look for it when the founder is gone.
 */
export function learnPlaces(ctx: FounderContext, now: readonly Place[]): boolean {
  const { byPeer } = ctx.state.members;
  const gone = ctx.places.filter(({ peer }) => {
    const member = byPeer.get(peer);
    return now.every((place) => place.peer !== peer) && member !== undefined && keepsLog(ctx, member);
  });
  const places = [...now, ...gone].slice(0, placesMax);
  const before = new Map(ctx.places.map(({ peer, addresses }) => [peer, addresses.join()]));
  const same =
    before.size === places.length &&
    places.every(({ peer, addresses }) => before.get(peer) === addresses.join());
  ctx.places = places;
  return !same;
}

/** Remembers since when each replica is far behind. Call it whenever the log or a replica has grown. */
export function watchLag(ctx: FounderContext): void {
  for (const peer of ctx.behindSince.keys()) if (!ctx.replicas.has(peer)) ctx.behindSince.delete(peer);
  for (const [peer, held] of ctx.replicas) {
    if (durableSize(ctx) - held <= farBehindEntries) ctx.behindSince.delete(peer);
    else if (!ctx.behindSince.has(peer)) ctx.behindSince.set(peer, ctx.now);
  }
}

/** Replicas that follow the log now. */
const following = (ctx: FounderContext): number => {
  const { byPeer } = ctx.state.members;
  return [...ctx.replicas.keys()].filter((peer) => {
    const member = byPeer.get(peer);
    return member !== undefined && keepsLog(ctx, member);
  }).length;
};

/** Replicas that acknowledgements wait for, and how many of these do not follow now. */
export function durability(ctx: FounderContext): DurabilityObject {
  const replicas = ctx.state.mesh.durability ?? 0;
  return { replicas, following: following(ctx) };
}

/** Fewer replicas follow than acknowledgements wait for: what is begun now could not be told of. */
export function starved(ctx: FounderContext): boolean {
  const { durability: replicas = 0 } = ctx.state.mesh;
  return replicas > 0 && following(ctx) < replicas;
}

/** Throws `SF_CONFLICT` for more replicas than follow now: the change itself would wait for them. */
export function setDurability(ctx: FounderContext, by: Actor, replicas: number): DurabilityObject {
  const now = durability(ctx);
  if (replicas > now.following && replicas > now.replicas) {
    throw new SuperfleetError('SF_CONFLICT', `acknowledgements cannot wait for ${replicas} replicas`, {
      expected: `at most ${now.following}: as many as follow the log now`,
      got: String(replicas),
      hint: 'start a replica, or let one in: mesh-hub invite --role worker --role replica; mesh-hub status shows who follows',
    });
  }
  if (replicas !== now.replicas) ctx.append({ type: 'mesh.durability', body: { replicas, by } });
  return { ...now, replicas };
}

/** Every replica but the founder itself, and how far each has come. */
export const replicaLines = (ctx: FounderContext, active: readonly MemberRecord[]): ReplicaLine[] =>
  active
    .filter((member) => keepsLog(ctx, member))
    .map((member) => {
      const lag = lagOf(ctx, member);
      const from = lag === null ? null : (ctx.replicasFrom.get(member.peer) ?? 0);
      return { id: member.peer, name: member.name, lag, from };
    });

/** What may be lost with the founder's disk; also among the warnings. */
export function replicaRisks(ctx: FounderContext, active: readonly MemberRecord[]): string[] {
  const replicas = replicaLines(ctx, active);
  if (starved(ctx)) {
    const { replicas: asked, following: now } = durability(ctx);
    return [
      `acknowledgements wait for ${asked} ${asked === 1 ? 'replica' : 'replicas'} and ${now} ${now === 1 ? 'follows' : 'follow'}: nothing is ` +
        `given out or acknowledged until one is back, or fewer are asked for: mesh-hub durability ${now}`,
    ];
  }
  if (replicas.length === 0) {
    return [
      'no replica yet: if this disk dies, the mesh is lost; let a machine in that keeps a copy of the log: ' +
        'mesh-hub invite --role worker --role replica',
    ];
  }
  if (replicas.every(({ lag }) => lag === null)) {
    const names = replicas.map(({ name }) => name).join(', ');
    return [
      `no replica follows the log now (${names}): what is new is on this disk alone; ` +
        'start one of them, there: mesh-node start --detach',
    ];
  }
  const following = replicas.filter(({ lag }) => lag !== null);
  const lowest = Math.min(...following.map(({ from }) => from ?? 0));
  const partial =
    lowest === 0
      ? []
      : [`no replica that follows holds entries before ${lowest} yet: they are fetched in the background`];
  const slow = replicas.flatMap(({ id, name, lag }) => {
    const since = ctx.behindSince.get(id);
    if (lag === null || since === undefined || ctx.now - since < farBehindMs) return [];
    const minutes = Math.floor((ctx.now - since) / 60_000);
    return [
      `the replica ${name} is ${lag} entries behind, for ${minutes} min: is its disk or its network slow?`,
    ];
  });
  return [...partial, ...slow];
}
