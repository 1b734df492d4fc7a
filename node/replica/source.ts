import { checkpointBytesMax, parseCheckpoint, parseNote } from '../../ledger/lines/checkpoint.ts';
import { verifyCosignature } from '../../ledger/lines/cosignature.ts';
import { LogDamagedError } from '../../ledger/log/damage.ts';
import type { DurableLog } from '../../ledger/log/durable-log.ts';
import type { RawBatches } from '../../ledger/log/reader.ts';
import type { SnapshotStore } from '../../ledger/snapshots/snapshot-store.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { publicKeyFromPeerId, publicKeyToBase64 } from '../../protocol/keys.ts';
import {
  LOG_PROTOCOL,
  type LogTip,
  type LogWord,
  logCreditBytes,
  logPieceBytes,
  openLogFrame,
} from '../../protocol/log-sync.ts';
import { FrameChannel } from '../network/channel.ts';
import type { Registry } from '../network/registry.ts';
import { creditFor, type Flow, granted, outOfTurn, sayWord, sendData } from './flow.ts';
import { fillIn, giveSnapshot, newestSnapshot } from './give.ts';
import { RecentBatches } from './recent.ts';

/** A request comes within this. */
const REQUEST_MS = 10_000;
/** Pieces that were not acknowledged: a follower does so before it grants their bytes, and the smallest batch has 400. */
const unackedMax = 32_768;
/** Two checkpoints, and words around them. */
const requestBytesMax = 12 * 1024;

/** How far a follower has come. */
export interface Follower {
  peer: string;
  /** Entries that it has synced. */
  size: number;
  root: string;
  /** Lowest entry that it holds; above 0: it began at a snapshot, and fetches the entries before. */
  from: number;
  /** Where it says that it listens. */
  addresses: readonly string[];
}

/** The mesh's secrets, for the founder that took over. */
export interface Estate {
  values: ReadonlyMap<string, string>;
  /** They are synced at the new founder's. */
  kept(): Promise<void>;
}

/** What may be sent to a follower, and what was. */
interface FollowerFlow extends Flow {
  /** Where the pieces end that were sent and not yet acknowledged. */
  sent: number[];
}

export interface LogSourceOptions {
  registry: Registry;
  mesh: string;
  /** The log that is served; null: this machine holds none (yet), and answers for its newest checkpoint only. */
  log(): DurableLog | null;
  /** Newest checkpoint that members may be told of. @default the log's */
  head?(): string | null;
  /** Newest checkpoint this machine has seen, and the lines of the handovers it knows of. */
  seen(): { checkpoint: string | null; handovers: readonly string[] };
  /** The proof by which this machine has frozen the log; null: it has not. @default null */
  conflict?(): readonly [string, string] | null;
  /** A peer shows what it says is proof of an equivocation. */
  onConflict?(checkpoints: [string, string]): void;
  /** Who may follow the log; any member may ask for its head. */
  mayFollow(peer: string): boolean;
  /** A replica: the key that would sign the log if it were made the founder, and where it would be found. @default none */
  next?(): { logKey: string; addresses: string[] };
  /** Blobs that it does not have yet. @default not said */
  missing?(): number;
  /** What is left here for this peer, the founder of now; null: nothing, or nothing for it. @default null */
  estate?(peer: string): Promise<Estate | null>;
  /** Snapshots of the log that may be asked for. @default none */
  snapshots?: SnapshotStore;
  /** A follower came, synced more, or went. */
  onFollowers?(followers: Follower[]): void;
}

/**
 * Serves the log to replicas, and to every member what this machine has seen of it. What a follower acknowledged is kept
 * until it follows anew; a slow one has its credit, and nobody waits for it.
 */
export class LogSource {
  readonly #options: LogSourceOptions;
  #recent: RecentBatches | null = null;
  /** The newest stream of each peer counts. */
  readonly #followers = new Map<string, { position: Follower; stream: number }>();
  /** By peer: the newest checkpoint that it cosigned, and its line. */
  readonly #cosignatures = new Map<string, { text: string; line: string }>();
  readonly #acknowledged = new Map<string, number>();
  readonly #ending = new AbortController();
  #streams = 0;

  private constructor(options: LogSourceOptions) {
    this.#options = options;
  }

  static async serve(options: LogSourceOptions): Promise<LogSource> {
    const source = new LogSource(options);
    await options.registry.handleProtocol({
      protocol: LOG_PROTOCOL,
      access: 'members',
      maxInboundStreams: 4,
      handler: (stream, connection) =>
        source.#serve(
          new FrameChannel(stream, { frameBytesMax: requestBytesMax, unreadBytesMax: 64 * 1024 }),
          connection.remotePeer.toString(),
        ),
    });
    return source;
  }

  /** Entries that this peer said it holds synced, also where it follows no more; 0: it never followed. */
  acknowledged(peer: string): number {
    return this.#acknowledged.get(peer) ?? 0;
  }

  /** Followers whose streams are open. */
  get followers(): Follower[] {
    return [...this.#followers.values()].map(({ position }) => position);
  }

  /** Entries that at least `replicas` followers hold synced; those of nobody where there are fewer. */
  heldBy(replicas: number): number {
    const sizes = this.followers.map(({ size }) => size).sort((a, b) => b - a);
    return sizes[replicas - 1] ?? 0;
  }

  /** The checkpoint with the cosignature of every follower that has one of exactly this text. */
  cosigned(text: string): string {
    const lines = [...this.#cosignatures.values()].filter((cosignature) => cosignature.text === text);
    let cosigned = text;
    for (const { line } of lines) {
      if (cosigned.length + line.length <= checkpointBytesMax) cosigned += line;
    }
    return cosigned;
  }

  stop(): void {
    this.#ending.abort(new SuperfleetError('SF_UNREACHABLE', 'this machine is stopping'));
    this.#recent?.close();
  }

  async #serve(channel: FrameChannel, peer: string): Promise<void> {
    const request = openLogFrame(await channel.expect(AbortSignal.timeout(REQUEST_MS)));
    if (request.type === 'conflict') {
      if (request.mesh === this.#options.mesh) this.#options.onConflict?.(request.checkpoints);
      return;
    }
    if (request.type === 'secrets.ask') return this.#giveSecrets(channel, peer, request.mesh);
    if (request.type !== 'head' && request.type !== 'follow' && request.type !== 'snapshot') {
      throw outOfTurn('head, follow or snapshot');
    }
    const refusal = this.#refusal(request, peer);
    if (refusal !== null) {
      const { code, message, hint } = refusal.toJSON();
      await sayWord(channel, { type: 'fault', code, message, hint });
      return;
    }
    if (request.type === 'snapshot') {
      return giveSnapshot(channel, this.#options.snapshots, request.size, this.#ending.signal);
    }
    const tip = await this.#tip(peer, request.type === 'follow' ? request.size : null);
    await sayWord(channel, tip);
    if (request.type !== 'follow') return;
    if (request.until === undefined) await this.#pour(channel, peer, request, tip);
    else await fillIn(channel, this.#options.log()!, request.size, request.until, this.#ending.signal);
  }

  async #giveSecrets(channel: FrameChannel, peer: string, mesh: string): Promise<void> {
    const estate = mesh === this.#options.mesh ? await this.#options.estate?.(peer) : null;
    const values = [...(estate?.values ?? [])];
    for (const [name, value] of values) {
      await sayWord(channel, { type: 'secret', name, value: Buffer.from(value).toString('base64') });
    }
    await sayWord(channel, { type: 'secrets', count: values.length });
    if (values.length === 0) return;
    const word = openLogFrame(await channel.expect(AbortSignal.timeout(REQUEST_MS)));
    if (word.type !== 'secrets.kept' || word.count !== values.length) throw outOfTurn('secrets.kept');
    await estate?.kept();
  }

  #refusal(
    request: Extract<LogWord, { type: 'head' | 'follow' | 'snapshot' }>,
    peer: string,
  ): SuperfleetError | null {
    const { mesh, mayFollow } = this.#options;
    const log = this.#options.log();
    if (request.mesh !== mesh) return new SuperfleetError('SF_REFUSED', `this machine is of mesh ${mesh}`);
    if (request.type === 'head') return null;
    if (!mayFollow(peer)) {
      return new SuperfleetError('SF_REFUSED', 'only replicas may read the whole log', {
        expected: 'the role replica',
        hint: 'ask the operator of the founder: mesh-hub invite --roles worker,replica',
      });
    }
    if (log === null) return new SuperfleetError('SF_NOT_FOUND', 'this machine holds no log');
    if (request.size > log.size) {
      return new SuperfleetError('SF_BEHIND', `this machine holds ${log.size} entries, you ${request.size}`);
    }
    if (request.type === 'follow' && (request.until ?? 0) > log.size) {
      return new SuperfleetError(
        'SF_BEHIND',
        `this machine holds ${log.size} entries, you lack ${request.until}`,
      );
    }
    if (request.type === 'follow' && request.size < log.first) {
      return new SuperfleetError('SF_NOT_FOUND', `entries before ${log.first} are still being fetched here`, {
        hint: 'ask the founder or another replica',
      });
    }
    return null;
  }

  async #tip(peer: string, size: number | null): Promise<LogTip> {
    const log = this.#options.log();
    const { checkpoint, handovers } = this.#options.seen();
    const { head } = this.#options;
    const conflict = this.#options.conflict?.() ?? null;
    // Whoever takes over has the log from its first entry on.
    const next = log === null || log.first > 0 ? undefined : this.#options.next?.();
    const missing = this.#options.missing?.();
    const at = size === null || log === null ? null : await log.checkpointAt(size);
    const snapshot =
      log !== null && this.#options.mayFollow(peer)
        ? await newestSnapshot(this.#options.snapshots, log)
        : null;
    return {
      type: 'tip',
      checkpoint: size === null && head !== undefined ? head() : (log?.checkpoint.text ?? checkpoint),
      at: at?.text ?? null,
      handovers: [...handovers],
      holds: log !== null,
      ...(conflict === null ? {} : { conflict: [...conflict] as [string, string] }),
      ...(next === undefined ? {} : { next }),
      ...(missing === undefined ? {} : { missing }),
      ...(snapshot === null ? {} : { snapshot }),
    };
  }

  /** Sends batches within the credit as they become durable, until the follower goes. */
  async #pour(
    channel: FrameChannel,
    peer: string,
    from: Extract<LogWord, { type: 'follow' }>,
    { at }: LogTip,
  ): Promise<void> {
    const log = this.#options.log()!;
    this.#recent ??= new RecentBatches(log);
    const stream = ++this.#streams;
    const ending = new AbortController();
    const signal = AbortSignal.any([this.#ending.signal, ending.signal]);
    const flow: FollowerFlow = { credit: logCreditBytes, sent: [], wake: () => {} };
    signal.addEventListener('abort', () => flow.wake(), { once: true });
    // What it says it holds counts where it is this log's.
    const known = at !== null && parseCheckpoint(at).root === from.root;
    const held = known ? { size: from.size, root: from.root } : { size: 0, root: '' };
    const position = { peer, ...held, from: from.from ?? 0, addresses: from.addresses ?? [] };
    this.#followers.set(peer, { stream, position });
    this.#options.onFollowers?.(this.followers);
    const hearing = this.#hear(channel, peer, stream, flow, log).then(
      () => ending.abort(new SuperfleetError('SF_UNREACHABLE', 'the follower went')),
      (thrown: unknown) => ending.abort(thrown),
    );
    try {
      for (let next = from.size; ; ) {
        signal.throwIfAborted();
        if (log.size === next) {
          if (log.failure !== null || log.closed) return;
          await log.changed(signal);
          continue;
        }
        const before = next;
        for await (const piece of oneAhead(this.#pieces(log, next))) {
          await this.#send(channel, piece, flow, signal);
          next = piece.size;
        }
        // The disk has less than is durable: asked again it would say the same, without end.
        if (next === before) throw unreadable(log, next);
      }
    } finally {
      if (this.#followers.get(peer)?.stream === stream) {
        this.#followers.delete(peer);
        this.#options.onFollowers?.(this.followers);
      }
      ending.abort(new Error('over'));
      channel.abort(new Error('over'));
      await hearing;
    }
  }

  async *#pieces(log: DurableLog, from: number): AsyncGenerator<RawBatches> {
    const recent = this.#recent!.from(from, logPieceBytes);
    if (recent === null) yield* log.raw(from, logPieceBytes);
    else yield recent;
  }

  async #send(
    channel: FrameChannel,
    piece: RawBatches,
    flow: FollowerFlow,
    signal: AbortSignal,
  ): Promise<void> {
    const { first, size, bytes } = piece;
    await creditFor(bytes.length, flow, signal);
    if (flow.sent.push(size) > unackedMax)
      throw outOfTurn('an acknowledgement before what came is granted anew');
    await sayWord(channel, { type: 'batches', first, size, bytes: bytes.length });
    await sendData(channel, bytes);
  }

  /** Takes acknowledgements and grants until the follower closes its side. */
  async #hear(
    channel: FrameChannel,
    peer: string,
    stream: number,
    flow: FollowerFlow,
    log: DurableLog,
  ): Promise<void> {
    for (;;) {
      const frame = await channel.read();
      if (frame === null) return;
      const word = openLogFrame(frame);
      if (word.type === 'grant') granted(flow, word.bytes);
      else if (word.type === 'ack') {
        const held = this.#followers.get(peer);
        if (held?.stream !== stream) continue;
        const { size, root, cosigned } = word;
        const at = flow.sent.indexOf(size);
        const forked = size === log.size && root !== log.checkpoint.root;
        if (at === -1 || forked) throw outOfTurn('the end of a piece that was sent, once');
        flow.sent.splice(0, at + 1);
        held.position = { ...held.position, size, root, from: word.from ?? 0 };
        this.#acknowledged.set(peer, size);
        if (cosigned !== undefined) this.#keepCosignature(peer, cosigned, log.checkpoint.text);
        this.#options.onFollowers?.(this.followers);
      } else throw outOfTurn('ack or grant');
    }
  }

  /** One of an older checkpoint is passed over: by the time it comes there is a newer one. */
  #keepCosignature(peer: string, cosigned: string, text: string): void {
    if (!cosigned.startsWith(text)) return;
    try {
      // Whatever else it wrote there would stand in every proof file, and spoil it.
      if (parseNote(cosigned).signatures.length !== parseNote(text).signatures.length + 1) {
        throw new SuperfleetError('SF_NOT_PROVED', 'it is not one line more');
      }
      verifyCosignature(cosigned, { name: peer, publicKey: publicKeyToBase64(publicKeyFromPeerId(peer)) });
    } catch (cause) {
      throw new SuperfleetError('SF_NOT_PROVED', 'a follower’s cosignature does not hold', { cause });
    }
    this.#cosignatures.set(peer, { text, line: cosigned.slice(text.length) });
  }
}

const unreadable = (log: DurableLog, size: number): LogDamagedError =>
  new LogDamagedError(
    { segment: 'the log', offset: 0, index: size },
    `its files end before the ${log.size} entries that are durable`,
  );

/** The same pieces; one is read while the one before is sent. */
async function* oneAhead(pieces: AsyncGenerator<RawBatches>): AsyncGenerator<RawBatches> {
  try {
    for (let coming = pieces.next(); ; ) {
      const { done, value } = await coming;
      if (done) return;
      coming = pieces.next();
      // It is heard of when its turn comes.
      coming.catch(() => {});
      yield value;
    }
  } finally {
    await pieces.return(undefined);
  }
}
