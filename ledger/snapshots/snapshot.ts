import { createHash, hash } from 'node:crypto';
import { z } from 'zod';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import { leadershipOf, signerAt } from '../../protocol/handover.ts';
import { count, sha256Hex } from '../../protocol/ids.ts';
import { canonicalPieces } from '../lines/canonical-json.ts';
import { checkpointBytesMax, parseCheckpoint } from '../lines/checkpoint.ts';
import type { EventBody } from '../lines/events.ts';
import { parseLine } from '../lines/line.ts';
import { type ChainState, checkSignature } from '../log/chain.ts';
import { Offsets } from '../log/offsets.ts';
import { Frontier } from '../proofs/merkle.ts';
import { defaultBounds, type StateBounds } from '../state/reducer.ts';
import { loadState, type MeshState, type SavedState, saveState } from '../state/state.ts';
import type { LinePlace } from '../storage/storage.ts';

/** Why a snapshot is not what it should be. The log is whole without it. */
export class SnapshotFault extends Error {}

/** All that a start needs of a log up to one of its checkpoints. */
export interface Snapshot {
  /** Settled: at a checkpoint that holds. */
  chain: ChainState;
  /** Entry 0 as it stands in the log. */
  genesisLine: string;
  /** Right after that checkpoint, where the log lay when this was made: a hint. */
  place: LinePlace;
  /** Where entries before it lay then. */
  offsets: Offsets;
  state: MeshState;
  /** What the log says of it, or will. */
  body: EventBody<'log.snapshot'>;
}

type Made = Omit<Snapshot, 'body'>;

/** Places of one file: reading an entry of a log of a million passes over a few hundred others at most. */
const placesMax = 4096;
/** Lines of a file beside the reducers': the header and the digest of all that stands before it. */
const otherLines = 2;
const NEWLINE = 0x0a;
/** What a reducer saves is an object of lists of records. */
const recordDepth = 2;
const pieceCharacters = 256 * 1024;

const header = z.strictObject({
  snapshot: z.literal(1),
  /** Lines as they stand in the log. */
  genesis: z.string(),
  handovers: z.array(z.string()),
  checkpoint: z.string().max(checkpointBytesMax),
  frontier: z.array(sha256Hex),
  /** Checkpoints up to this one, which is among them. */
  checkpoints: count.min(1),
  /** Of the newest entry, Unix ms. */
  time: count,
  place: z.strictObject({ segment: count, offset: count }),
  /** Index, segment and offset of some entries, ascending. */
  places: z.array(z.tuple([count, count, count])).max(placesMax),
  reducers: z.array(z.strictObject({ name: z.string(), version: count, digest: sha256Hex })),
});
const trailer = z.strictObject({ digest: sha256Hex });

type Parts = EventBody<'log.snapshot'>['reducers'];

/** Name and version of each reducer, and the digest of the canonical JSON of its part of a state. */
export function stateDigests(state: MeshState): Parts {
  return savedParts(state).map(({ name, version, saved }) => {
    const digest = createHash('sha256');
    for (const piece of pieces(saved)) digest.update(piece);
    return { name, version, digest: digest.digest('hex') };
  });
}

/**
 * What the log is to say of a snapshot, and its file in pieces, to be taken once. The state must be that of exactly the
 * entries under the checkpoint.
 */
export function encodeSnapshot({ chain, genesisLine, place, offsets, state }: Made): {
  body: EventBody<'log.snapshot'>;
  file: Iterable<string>;
} {
  const reducers = stateDigests(state);
  const { size, root } = chain.checkpoint!;
  const body = { size, root, frontier: chain.frontier.toJSON().hashes, reducers };
  const head: z.input<typeof header> = {
    snapshot: 1,
    genesis: genesisLine,
    handovers: chain.leadership!.handovers.map(({ line }) => line),
    checkpoint: chain.checkpoint!.text,
    frontier: body.frontier,
    checkpoints: chain.checkpoints,
    time: chain.time,
    place,
    places: offsets.some(placesMax).map(({ index, segment, offset }) => [index, segment, offset]),
    reducers,
  };
  return { body, file: fileOf(JSON.stringify(head), state) };
}

function* fileOf(head: string, state: MeshState): Generator<string> {
  const digest = createHash('sha256');
  for (const text of linesIn(head, state)) {
    digest.update(text);
    yield text;
  }
  yield trailerOf(digest.digest('hex'));
}

function* linesIn(head: string, state: MeshState): Generator<string> {
  yield `${head}\n`;
  for (const { saved } of savedParts(state)) {
    yield* pieces(saved);
    yield '\n';
  }
}

const savedParts = (state: MeshState): { name: string; version: number; saved: unknown }[] =>
  Object.entries(saveState(state)).map(([name, { version, state: saved }]) => ({ name, version, saved }));

/** One record of one reducer is never long: what is gathered of them is. */
function* pieces(saved: unknown): Generator<string> {
  let held = '';
  for (const piece of canonicalPieces(saved, recordDepth)) {
    held += piece;
    if (held.length < pieceCharacters) continue;
    yield held;
    held = '';
  }
  yield held;
}

/**
 * A snapshot from the bytes of its file, with everything checked that can be without the log: its digests, the root that
 * the frontier gives, and that the key which had to sign the checkpoint did. Throws `SnapshotFault`.
 */
export function decodeSnapshot(bytes: Buffer, bounds: StateBounds = defaultBounds): Snapshot {
  const { state, ...snapshot } = decodeBase(bytes, bounds);
  if (state === null) throw new SnapshotFault('it was made by a program whose states are kept differently');
  return { ...snapshot, state };
}

/** What a log begins at: all of a snapshot, or all but a state that this program does not keep in that form. */
export type Base = Omit<Snapshot, 'state'> & { state: MeshState | null };

/** As `decodeSnapshot`. */
export function decodeBase(bytes: Buffer, bounds: StateBounds = defaultBounds): Base {
  const [first, ...others] = linesOf(bytes);
  const last = others.pop();
  if (first === undefined || last === undefined) throw new SnapshotFault('it is no snapshot');
  const before = bytes.subarray(0, bytes.length - last.length - 1);
  if (`${last}\n` !== trailerOf(hash('sha256', before)))
    throw new SnapshotFault('its bytes are not those that were written');
  const head = attempt(() => header.parse(JSON.parse(first.toString())));
  if (others.length !== head.reducers.length) {
    throw new SnapshotFault(`it has ${others.length + otherLines} lines`);
  }
  const chain = chainOf(head);
  const saved: SavedState = {};
  for (const [at, { name, version, digest }] of head.reducers.entries()) {
    const text = others[at]!;
    if (hash('sha256', text) !== digest) throw new SnapshotFault(`the state of ${name} has another digest`);
    saved[name] = { version, state: attempt(() => JSON.parse(text.toString())) };
  }
  const state = attempt(() => loadState(saved, bounds));
  const { size, root } = chain.checkpoint!;
  if (state !== null && (state.mesh.size !== size || state.mesh.time !== chain.time)) {
    throw new SnapshotFault('its state is of another size than its checkpoint');
  }
  const { frontier, reducers } = head;
  const places = head.places.map(([index, segment, offset]) => ({ index, segment, offset }));
  return {
    chain,
    genesisLine: head.genesis,
    place: head.place,
    offsets: Offsets.from(places),
    state,
    body: { size, root, frontier, reducers },
  };
}

/** Names of the reducers whose states differ. Those of other versions say nothing of each other. */
export function differing(some: Parts, others: Parts): string[] {
  const differs = ({ name, version, digest }: Parts[number]): boolean =>
    others.some((other) => other.name === name && other.version === version && other.digest !== digest);
  return some.filter(differs).map(({ name }) => name);
}

function chainOf(head: z.infer<typeof header>): ChainState {
  return attempt(() => {
    const genesis = parseLine(Buffer.from(head.genesis));
    if (genesis.kind !== 'entry' || genesis.entry.type !== 'mesh.created') {
      throw new SnapshotFault('its first line is no genesis');
    }
    const checkpoint = parseCheckpoint(head.checkpoint);
    const leadership = leadershipOf(head.genesis, head.handovers);
    if (leadership.handovers.some(({ index }) => index >= checkpoint.size)) {
      throw new SnapshotFault('a handover in it is newer than its checkpoint');
    }
    const frontier = Frontier.from({ size: checkpoint.size, hashes: head.frontier });
    if (frontier.root().toString('hex') !== checkpoint.root) {
      throw new SnapshotFault('its frontier does not give the root of its checkpoint');
    }
    const chain: ChainState = {
      meshId: meshIdOfLine(head.genesis),
      genesis: genesis.entry.body as EventBody<'mesh.created'>,
      leadership,
      signedBy: signerAt(leadership, checkpoint.size),
      time: head.time,
      frontier,
      checkpoint,
      checkpoints: head.checkpoints,
    };
    checkSignature(chain);
    return chain;
  });
}

const trailerOf = (digest: string): string => {
  const line: z.input<typeof trailer> = { digest };
  return `${JSON.stringify(line)}\n`;
};

/** Every line without its newline; none where the last is not ended. */
function linesOf(bytes: Buffer): Buffer[] {
  if (bytes.at(-1) !== NEWLINE) return [];
  const lines: Buffer[] = [];
  for (let begin = 0; begin < bytes.length; ) {
    const end = bytes.indexOf(NEWLINE, begin);
    lines.push(bytes.subarray(begin, end));
    begin = end + 1;
  }
  return lines;
}

/** What does not hold is a fault of the snapshot. */
function attempt<T>(check: () => T): T {
  try {
    return check();
  } catch (error) {
    if (error instanceof SnapshotFault) throw error;
    throw new SnapshotFault((error as Error).message, { cause: error });
  }
}
