import type { Speed } from './speed.ts';
import { BrainError, type Model } from './types.ts';

/** A model that some brain offers. */
export interface Offer {
  /** Name of the brain. */
  brain: string;
  place: 'local' | 'mesh' | 'cloud';
  /** Address of its server. */
  server: string;
  model: Model;
  /** As measured; null: not yet. */
  speed: Speed | null;
}

/** What a task asks for. */
export interface Wishes {
  /** Name of a model; without a tag it stands for `:latest` too. Null: any. */
  model: string | null;
  /** Name of a brain; null: any. */
  brain: string | null;
  /** Prompt and answer together; null: whatever there is. */
  contextTokens: number | null;
  /** `none`: it calls none. `own`: the model calls them itself. `any`: itself, or by the form of its answer (`withoutTools`). */
  tools: 'none' | 'own' | 'any';
  /** The owner allows a cloud. */
  cloud: boolean;
}

export interface Candidate<T extends Offer = Offer> {
  offer: T;
  /** Tools are to be asked for by the form of the answer. */
  byFormat: boolean;
}

export interface Choice<T extends Offer = Offer> {
  /** To be tried in this order. */
  candidates: Candidate<T>[];
  refused: { offer: T; reason: string }[];
}

/**
 * Which models to try, and in which order. This machine's before others' of the mesh, these before a cloud's; then those known to call tools, those of which it is not
 * known, those known not to; then those known to hold the context; then the smaller (by parameters where they are known, else by
 * bytes, else last); then the faster in generating; then by name. Unknown facts sort behind known ones and refuse nothing.
 * The order does not depend on that of the offers, of which each brain, server and model has one.
 */
export function choose<T extends Offer>(offers: readonly T[], wishes: Wishes): Choice<T> {
  const candidates: Candidate<T>[] = [];
  const refused: Choice<T>['refused'] = [];
  for (const offer of offers) {
    const reason = refusalOf(offer, wishes);
    if (reason !== null) refused.push({ offer, reason });
    else candidates.push({ offer, byFormat: wishes.tools === 'any' && offer.model.tools === false });
  }
  candidates.sort((a, b) => compare(rank(a.offer, wishes), rank(b.offer, wishes)));
  refused.sort((a, b) => compare(names(a.offer), names(b.offer)));
  return { candidates, refused };
}

/**
 * Without the models of other machines that are known to hold less than every one of this machine's: a conversation goes by
 * the narrowest that may be asked, and what others lend is not to narrow it. Where this machine has none, all stay.
 */
export function unnarrowed<T extends Candidate>(candidates: readonly T[], contextTokensMax: number): T[] {
  const holds = ({ offer }: T): number =>
    Math.min(offer.model.contextTokens ?? contextTokensMax, contextTokensMax);
  const own = candidates.filter(({ offer }) => offer.place === 'local').map(holds);
  const narrowest = own.length === 0 ? 0 : Math.min(...own);
  return candidates.filter((one) => one.offer.place !== 'mesh' || holds(one) >= narrowest);
}

/** Why a model is not tried, in words; null: it may be. */
function refusalOf({ brain, place, model }: Offer, wishes: Wishes): string | null {
  if (wishes.brain !== null && wishes.brain !== brain) return `${wishes.brain} was asked for`;
  if (wishes.model !== null && !isNamed(model.name, wishes.model)) return `${wishes.model} was asked for`;
  if (place === 'cloud' && !wishes.cloud) return 'it is in a cloud, and none is allowed';
  if (wishes.tools === 'own' && model.tools === false) return 'it calls no tools';
  const { contextTokens } = model;
  if (wishes.contextTokens !== null && contextTokens !== null && contextTokens < wishes.contextTokens) {
    return `it holds ${contextTokens} tokens, and ${wishes.contextTokens} are needed`;
  }
  return null;
}

const isNamed = (name: string, wished: string): boolean =>
  name === wished || (!wished.includes(':') && name === `${wished}:latest`);

/** Compared from the left. */
type Rank = readonly (number | string)[];

/** A prompt goes no farther than it has to. */
const PLACES = ['local', 'mesh', 'cloud'] as const;

function rank(offer: Offer, wishes: Wishes): Rank {
  const { place, model, speed } = offer;
  const known = (fact: unknown): number => (fact === null ? 1 : 0);
  const [sizeKind, size] =
    model.parameters !== null ? [0, model.parameters] : model.bytes !== null ? [1, model.bytes] : [2, 0];
  const rate = speed?.generateTokensPerSecond ?? null;
  return [
    PLACES.indexOf(place),
    wishes.tools === 'none' || model.tools === true ? 0 : model.tools === null ? 1 : 2,
    wishes.contextTokens === null ? 0 : known(model.contextTokens),
    sizeKind,
    size,
    known(rate),
    -(rate ?? 0),
    ...names(offer),
  ];
}

const names = ({ model, brain, server, place }: Offer): Rank => [model.name, brain, server, place];

function compare(a: Rank, b: Rank): number {
  for (const [index, left] of a.entries()) {
    const right = b[index]!;
    if (left !== right) return left < right ? -1 : 1;
  }
  return 0;
}

const NAMED_MAX = 8;

/** Says that there is no model for a task, and why each that is offered was not taken. */
export function noModel(choice: Choice): BrainError {
  const { refused } = choice;
  if (refused.length === 0) return new BrainError('model', 'no model: no brain offers any');
  const told = refused
    .slice(0, NAMED_MAX)
    .map(({ offer, reason }) => `${offer.model.name} (${offer.brain}): ${reason}`);
  const more = refused.length - told.length;
  return new BrainError(
    'model',
    `no model fits: ${told.join('; ')}${more === 0 ? '' : `; and ${more} more`}`,
  );
}
