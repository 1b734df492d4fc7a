import { type Lender, lendersBytesMax, lendersMax, MODELS_FEATURE } from '../../../protocol/session.ts';
import type { FounderContext } from '../context.ts';

const NOBODY: ReadonlySet<string> = new Set();

/** Who lends models now. What members were told and what goals are given out by is one list. */
export class Lenders {
  list: readonly Lender[] = [];
  /** The fleet that it was made of. */
  madeIn = 0;
  #said = '[]';
  /** Peers by the model that they lend. */
  #byModel = new Map<string, Set<string>>();
  #peers = new Set<string>();

  /** Takes up the list; whether it is news. */
  take(list: readonly Lender[]): boolean {
    const said = JSON.stringify(list);
    if (said === this.#said) return false;
    this.#said = said;
    this.list = list;
    this.#peers = new Set(list.map(({ peer }) => peer));
    this.#byModel = new Map();
    for (const { peer, models } of list) {
      for (const model of models) {
        const peers = this.#byModel.get(model) ?? new Set();
        this.#byModel.set(model, peers.add(peer));
      }
    }
    return true;
  }

  /** Whether another than this member lends the model; `*`: any, and a name without a tag stands for `:latest` too. */
  lendTo(peer: string, model: string): boolean {
    const other = (lenders: ReadonlySet<string>): boolean => lenders.size > (lenders.has(peer) ? 1 : 0);
    if (model === '*') return other(this.#peers);
    const named = (name: string): ReadonlySet<string> => this.#byModel.get(name) ?? NOBODY;
    return other(named(model)) || other(named(`${model}:latest`));
  }
}

/**
 * Looks who lends models where the fleet has changed, and tells the members where that is news. Called by the tick, so that
 * many machines that come at once are told of once.
 */
export function learnLenders(ctx: FounderContext): void {
  if (ctx.lenders.madeIn === ctx.fleet) return;
  ctx.lenders.madeIn = ctx.fleet;
  if (!ctx.lenders.take(lendersNow(ctx))) return;
  // What fitted nobody may fit a machine that asks another's model.
  ctx.fleet += 1;
  ctx.pool.forget();
  ctx.lenders.madeIn = ctx.fleet;
  for (const { peer } of ctx.live.values()) tellLenders(ctx, peer);
}

/** The member learns who lends models, where it knows what to do with that. */
export function tellLenders(ctx: FounderContext, peer: string): void {
  if (!ctx.live.get(peer)?.features.includes(MODELS_FEATURE)) return;
  ctx.send(peer, { type: 'models', lenders: ctx.lenders.list.filter((lender) => lender.peer !== peer) });
}

/** Members here now whose owners lend models and have not stopped them; as many as fit a message. */
function lendersNow(ctx: FounderContext): Lender[] {
  const lenders: Lender[] = [];
  for (const { peer, session, capacity } of ctx.live.values()) {
    const lends = capacity?.lends;
    if (session === null || lends === undefined || capacity?.ownerPaused !== false) continue;
    const member = ctx.member(peer);
    // What is asked of a model is the work itself: a machine in quarantine is not shown it.
    if (
      member === null ||
      member.quarantined !== undefined ||
      lends.models.length === 0 ||
      lends.addresses.length === 0
    )
      continue;
    const models = [...new Set(lends.models.map(({ name }) => name))].sort();
    lenders.push({ peer, name: member.name, addresses: lends.addresses, models });
  }
  lenders.sort((a, b) => (a.peer < b.peer ? -1 : 1));
  let bytes = 0;
  return lenders.slice(0, lendersMax).filter((lender) => {
    const more = Buffer.byteLength(JSON.stringify(lender)) + 1;
    const fits = bytes + more <= lendersBytesMax;
    if (fits) bytes += more;
    return fits;
  });
}
