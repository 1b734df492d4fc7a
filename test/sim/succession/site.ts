import { FounderGuard } from '../../../hub/daemon/guard.ts';
import type { Entry } from '../../../ledger/lines/entry.ts';
import { handoverBatch } from '../../../ledger/log/handover.ts';
import { Log } from '../../../ledger/log/log.ts';
import { LogCopy } from '../../../ledger/log/log-copy.ts';
import { type Equivocation, provesEquivocation, testimonyOf } from '../../../ledger/proofs/witness.ts';
import { initialState, replay } from '../../../ledger/state/state.ts';
import { segmentName } from '../../../ledger/storage/storage.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { type Mark, markedBy } from '../../../node/daemon/instance-mark.ts';
import { divergesFrom } from '../../../node/daemon/succession.ts';
import type { Session, SessionHandlers } from '../../../node/network/session.ts';
import { askTip, tellConflict } from '../../../node/replica/follow.ts';
import { heedTip } from '../../../node/replica/heed-tip.ts';
import { Replica } from '../../../node/replica/replica.ts';
import { LogSource, type LogSourceOptions } from '../../../node/replica/source.ts';
import type { Timers } from '../../../node/timers.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { type Leadership, leadershipOf, newerLeadership } from '../../../protocol/handover.ts';
import { publicKeyToBase64, type SigningKey } from '../../../protocol/keys.ts';
import type { FounderMessage, MemberHello, MemberMessage } from '../../../protocol/session.ts';
import type { Machine } from '../machine.ts';
import type { MemberHost } from '../member-host.ts';
import { SimDisk } from './disk.ts';
import { Leader } from './leader.ts';
import { dial, type Port } from './streams.ts';
import type { SuccessionWorld } from './world.ts';

const LOOK_MS = 3_000;
const RELIEVED_MS = 1_500;
const RELIEVED_AGAIN_MS = 10_000;
const TELL_AGAIN_MS = 5_000;
const SYSTEM = 'one system';
/** Its log is from before it was made the founder. */
export const KEY_LOST = 'its key does not sign its log';
export const TWO_HISTORIES = 'two histories';
const silent = { warn: () => {}, info: () => {}, debug: () => {}, error: () => {} };

/** What a data folder holds beside the log; each change is synced before anything goes on. */
interface Folder {
  kind: 'hub' | 'node';
  /** Handovers it was shown. */
  handovers: string[];
  logKey: SigningKey | null;
  nextKey: SigningKey;
  proof: Equivocation | null;
  /** Beside the folder: no copy and no backup has it. */
  mark: Mark | null;
  place: string;
}

/** One machine of the mesh: its folder, and whatever its process is now: founder, replica, or member only. */
export class Site implements Port {
  readonly name: string;
  readonly peer: string;
  readonly machine: Machine;
  readonly disk: SimDisk;
  readonly folder: Folder;
  readonly isReplica: boolean;
  readonly world: SuccessionWorld;
  /** Null: a founder's copy, which has no member of its own. */
  member: MemberHost | null = null;
  listener: Port['listener'] = null;
  lie: Port['lie'] = null;
  slowMs = 0;
  leader: Leader | null = null;
  guard: FounderGuard | null = null;
  /** True time since when its founder asks its members. */
  guardSince = 0;
  replica: Replica | null = null;
  source: LogSource | null = null;
  /** It is never started again. */
  gone = false;
  /** Why it works no more until an operator comes. */
  halted: string | null = null;
  leadership: Leadership;
  #ending = new AbortController();

  constructor(world: SuccessionWorld, machine: Machine, peer: string, isReplica: boolean, folder: Folder) {
    this.world = world;
    this.machine = machine;
    this.name = machine.name;
    this.peer = peer;
    this.isReplica = isReplica;
    this.folder = folder;
    this.disk = new SimDisk(machine);
    this.leadership = leadershipOf(world.genesisLine, folder.handovers);
  }

  boot(): void {
    if (this.machine.alive || this.gone) return;
    this.halted = null;
    this.#ending = new AbortController();
    this.leadership = leadershipOf(this.world.genesisLine, this.folder.handovers);
    if (this.member === null) this.machine.start();
    else this.member.boot();
    this.#run(this.folder.kind === 'hub' ? this.#lead() : this.#follow());
  }

  /** The process dies; `kind` is what its disk is left with. */
  crash(kind: Parameters<SimDisk['crash']>[0]): void {
    if (this.member === null) this.machine.kill();
    else this.member.crash();
    this.leader?.stop();
    this.leader = null;
    this.guard = null;
    this.replica = null;
    this.source = null;
    this.listener = null;
    this.disk.crash(kind);
    this.world.closed(this);
  }

  /** Ends in order and starts again, as what its folder says. */
  restart(): void {
    this.crash('process');
    this.boot();
  }

  host = {
    peer: '',
    addresses: (): string[] => [],
    dial: (peer: string, _addresses: readonly string[], signal?: AbortSignal) =>
      dial(this.world, this, peer, signal),
  };

  /** Of the process as it is now: what outlives that process in the simulator's own promises sets no timers in the next. */
  get timers(): Timers {
    const { machine } = this;
    const { life } = machine;
    return {
      now: () => machine.mono,
      after: (ms, run) => {
        let off = machine.life !== life;
        if (!off) {
          machine.after(ms, () => {
            if (!off) run();
          });
        }
        return () => {
          off = true;
        };
      },
      random: () => machine.random.next(),
    };
  }

  halt(why: string): void {
    this.world.trace(`${this.name} halts: ${why}`);
    this.crash('process');
    this.halted = why;
  }

  /** Work of this process: what it throws is its end, and what it throws of promises is the world's. */
  #run(work: Promise<void>): void {
    const { life } = this.machine;
    work.catch((error: unknown) => {
      if (this.machine.life !== life) return;
      const code = error instanceof SuperfleetError ? error.code : null;
      if (code === 'SF_FENCED') this.stepDown();
      else if (code === 'SF_EQUIVOCATION') this.halt(TWO_HISTORIES);
      // Its disk is from before it was made the founder: that is for a person.
      else if (code === 'SF_FOLDER') this.halt(KEY_LOST);
      else this.world.broke(error);
    });
  }

  // ── founder ───────────────────────────────────────────────────────────────────────────────────────────────
  async #lead(): Promise<void> {
    const { world, folder, machine } = this;
    if (folder.proof !== null) throw new SuperfleetError('SF_EQUIVOCATION', 'frozen before');
    const log = await Log.open({ storage: this.disk.storage, key: folder.logKey });
    world.watch.opened(this);
    const entries: Entry[] = [];
    for await (const entry of log.entries()) entries.push(entry);
    const state = replay(entries, initialState());
    const standing = () => ({ mesh: log.meshId, size: log.size, root: log.checkpoint.root });
    log.subscribe((batch) => world.watch.batch(this, batch));
    const guard = new FounderGuard({
      log,
      state,
      self: this.peer,
      marked: markedBy(folder.mark, standing(), folder.place, SYSTEM),
      host: this.host,
      logger: silent as never,
      keepProof: async (equivocation) => {
        folder.proof = equivocation;
        return 'proof';
      },
      signal: this.#ending.signal,
      timers: this.timers,
    });
    this.guard = guard;
    this.guardSince = world.schedule.now;
    world.trace(`${this.name} asks its members, with ${log.size} entries of epoch ${log.epoch}`);
    await this.#relieved(log.epoch);
    await guard.sure();
    world.watch.goesOn(this, log);
    folder.mark = { format: 1, mesh: log.meshId, place: folder.place, size: log.size, clean: null };
    const leader = new Leader(machine, world.founderWorld(this), log, (error) => {
      this.#run(Promise.reject(error));
    });
    const lines: string[] = [];
    for await (const entry of log.entries()) lines.push(JSON.stringify(entry));
    this.leader = leader;
    leader.begin(lines, state);
    world.trace(`${this.name} leads epoch ${log.epoch} from ${log.size} entries`);
    guard.open((session, hello) => this.#attach(leader, session, hello));
    await this.#serve({
      log: () => log,
      seen: () => ({
        checkpoint: log.checkpoint.text,
        handovers: log.leadership.handovers.map(({ line }) => line),
      }),
      onConflict: (checkpoints) => {
        if (!provesEquivocation(log.leadership, checkpoints, log.epoch)) return;
        folder.proof = { mesh: log.meshId, checkpoints };
        this.halt(TWO_HISTORIES);
      },
      onFollowers: (followers) => {
        for (const { peer, size, root } of followers) world.watch.acknowledged(this, peer, size, root);
        const held = new Map(followers.map(({ peer, size }) => [peer, size]));
        leader.step({ type: 'replicas', held, places: [] });
      },
    });
  }

  /** Asks the replicas whether another one was made the founder meanwhile, and again while it runs. */
  async #relieved(epoch: number): Promise<void> {
    const ask = async (peer: string): Promise<void> => {
      const connection = await this.host.dial(peer, []);
      const { handovers } = await askTip(connection, this.world.mesh, this.#ending.signal);
      if (leadershipOf(this.world.genesisLine, handovers).epoch <= epoch) return;
      this.takeHandovers(handovers);
      if (this.leadership.epoch > epoch) this.stepDown();
    };
    const others = this.world.replicaPeers.filter((peer) => peer !== this.peer);
    const asked = Promise.all(others.map((peer) => ask(peer).catch(() => {})));
    await Promise.race([asked, new Promise<void>((resolve) => this.machine.after(RELIEVED_MS, resolve))]);
    this.machine.after(RELIEVED_AGAIN_MS, () => void this.#relieved(epoch));
  }

  #attach(
    leader: Leader,
    session: Session<FounderMessage>,
    hello: MemberHello,
  ): SessionHandlers<MemberMessage> {
    const { peer, id } = session;
    if (hello.checkpoint !== null) this.#run(this.#heed(leader.log, hello.checkpoint));
    leader.step({ type: 'connected', peer, session: id, hello });
    return {
      onMessage: (message) => leader.step({ type: 'received', peer, session: id, message }),
      onClosed: () => leader.step({ type: 'disconnected', peer, session: id }),
    };
  }

  async #heed(log: Log, text: string): Promise<void> {
    const testimony = await testimonyOf(log, text);
    if (testimony.kind === 'fork') {
      this.folder.proof = testimony.equivocation;
      this.halt(TWO_HISTORIES);
    } else if (testimony.kind === 'ahead') {
      this.crash('process');
      this.world.schedule.after(1_000, () => this.boot());
    }
  }

  /** The log is another founder's: this machine is a member from here on. */
  stepDown(): void {
    this.world.trace(`${this.name} steps down`);
    this.crash('process');
    this.folder.kind = 'node';
    this.folder.logKey = null;
    this.boot();
  }

  // ── replica ───────────────────────────────────────────────────────────────────────────────────────────────
  async #follow(): Promise<void> {
    const { world, machine } = this;
    this.#thaw();
    if (this.folder.proof !== null) this.#tell();
    this.#look();
    if (!this.isReplica) {
      await this.#serve(this.#shown());
      return;
    }
    let replica = await this.#openReplica();
    if (replica.copy !== null && divergesFrom(replica.copy, this.leadership)) {
      world.trace(`${this.name} sets its log aside`);
      await replica.stop();
      this.disk.put(Buffer.alloc(0));
      replica = await this.#openReplica();
    }
    world.watch.opened(this);
    this.replica = replica;
    replica.onBegun((copy) => {
      world.watch.begun(this, copy);
      this.member?.step({ type: 'holds', checkpoint: copy.checkpoint.text });
      copy.subscribe((batch) => {
        world.watch.batch(this, batch);
        this.member?.step({ type: 'holds', checkpoint: batch.checkpoint.text });
      });
    });
    if (replica.copy !== null) this.takeHandovers(replica.copy.leadership.handovers.map(({ line }) => line));
    if (!machine.alive || this.replica !== replica) return;
    world.watch.replayed(this);
    await this.#serve({ ...this.#shown(), log: () => replica.copy });
    replica.start();
    this.#mine();
  }

  #openReplica(): Promise<Replica> {
    const { world } = this;
    return Replica.open({
      host: this.host,
      mesh: world.mesh,
      storage: this.disk.storage,
      neighbours: { addresses: () => [], onNews: () => () => {} },
      founder: () => ({ peer: this.leadership.founder, addresses: [] }),
      replicas: () => world.replicaPeers,
      timers: this.timers,
      onTip: (_peer, tip) =>
        heedTip(tip, {
          own: this.replica?.copy?.checkpoint ?? null,
          takeHandovers: async (lines) => this.takeHandovers(lines),
          freeze: async (checkpoints) => this.freeze(checkpoints),
          frozen: () =>
            this.folder.proof === null ? null : new SuperfleetError('SF_EQUIVOCATION', 'frozen'),
        }),
      onHandover: (lines) => {
        this.takeHandovers(lines);
        this.machine.after(1, () => this.#mine());
      },
      onEvent: ({ peer, error }) =>
        world.trace(`${this.name} follows ${world.nameOf(peer)}: ${error === null ? 'well' : error.message}`),
    });
  }

  #shown(): Pick<LogSourceOptions, 'log' | 'seen' | 'conflict' | 'onConflict' | 'onFollowers'> {
    return {
      log: () => null,
      seen: () => ({
        checkpoint: this.member?.disk.checkpoint ?? null,
        handovers: this.leadership.handovers.map(({ line }) => line),
      }),
      conflict: () => this.folder.proof?.checkpoints ?? null,
      onConflict: (checkpoints) => this.freeze(checkpoints),
      onFollowers: (followers) => {
        for (const { peer, size, root } of followers) this.world.watch.acknowledged(this, peer, size, root);
      },
    };
  }

  async #serve(options: Omit<LogSourceOptions, 'registry' | 'mesh' | 'mayFollow'>): Promise<void> {
    const registry = {
      handleProtocol: async ({ handler }: { handler: NonNullable<Port['listener']> }) => {
        this.listener = async (stream, connection) => handler(stream, connection);
      },
    };
    this.source = await LogSource.serve({
      ...options,
      registry: registry as never,
      mesh: this.world.mesh,
      mayFollow: (peer) => peer === this.leadership.founder || this.world.replicaPeers.includes(peer),
    });
  }

  /** The copy is this machine's own word: nothing else makes it the founder. */
  #mine(): void {
    const copy = this.replica?.copy ?? null;
    if (copy?.leadership.founder !== this.peer) return;
    const own = publicKeyToBase64(this.folder.nextKey.publicKey);
    if (publicKeyToBase64(copy.leadership.logKey) !== own) return;
    this.folder.kind = 'hub';
    this.folder.logKey = this.folder.nextKey;
    this.folder.nextKey = this.world.newKey();
    const { size, root } = copy.checkpoint;
    const clean = { root, system: SYSTEM };
    this.folder.mark = { format: 1, mesh: copy.meshId, place: this.folder.place, size, clean };
    this.world.trace(`${this.name} takes over`);
    this.restart();
  }

  /** An operator with the recovery key makes this replica the founder. */
  async promote(): Promise<void> {
    const { copy } = this.replica!;
    const { nextKey } = this.folder;
    const to = { founder: this.peer, logKey: nextKey.publicKey, authority: 'recovery' as const };
    const { time } = this.machine.clock();
    this.world.trace(`${this.name} is promoted at ${copy!.size} entries`);
    const { bytes } = handoverBatch(copy!.standing, to, this.world.recoveryKey, time);
    await copy!.take(bytes);
  }

  /** As `mesh-hub start --accept-loss`: a founder that is frozen goes on with its own log in a new epoch. */
  async acceptLoss(): Promise<void> {
    const { world, folder } = this;
    // Its process is not running: what a command does to its folder is done when it ends.
    const storage = new MemoryStorage();
    storage.put(segmentName(0), this.disk.bytes);
    const copy = await LogCopy.open({ storage, mesh: world.mesh });
    const to = { founder: this.peer, logKey: folder.nextKey.publicKey, authority: 'recovery' as const };
    const { time } = this.machine.clock();
    await copy.take(handoverBatch(copy.standing, to, world.recoveryKey, time).bytes);
    const { leadership, checkpoint, meshId: mesh } = copy;
    await copy.close();
    this.disk.put(storage.bytes(segmentName(0))!);
    world.watch.led(this, this.leadership, leadership);
    folder.handovers = leadership.handovers.map(({ line }) => line);
    folder.logKey = folder.nextKey;
    folder.nextKey = world.newKey();
    folder.proof = null;
    const clean = { root: checkpoint.root, system: SYSTEM };
    folder.mark = { format: 1, mesh, place: folder.place, size: checkpoint.size, clean };
    world.trace(`${this.name} goes on in epoch ${leadership.epoch}`);
    this.boot();
  }

  // ── what every member does ────────────────────────────────────────────────────────────────────────────────
  takeHandovers(lines: readonly string[]): void {
    if (lines.length === 0) return;
    const newer = newerLeadership(this.leadership, leadershipOf(this.world.genesisLine, lines));
    if (newer === this.leadership) return;
    this.world.watch.led(this, this.leadership, newer);
    this.leadership = newer;
    this.folder.handovers = newer.handovers.map(({ line }) => line);
    this.world.trace(
      `${this.name} knows of epoch ${newer.epoch}, led by ${this.world.nameOf(newer.founder)}`,
    );
    this.#thaw();
    this.member?.step({ type: 'epoch', epoch: newer.epoch });
    const copy = this.replica?.copy ?? null;
    if (copy !== null && divergesFrom(copy, newer)) this.machine.after(1, () => this.restart());
  }

  freeze(checkpoints: readonly [string, string]): void {
    const { folder, world } = this;
    const { leadership } = this;
    if (folder.proof !== null || !provesEquivocation(leadership, checkpoints, leadership.epoch)) return;
    folder.proof = { mesh: world.mesh, checkpoints: [checkpoints[0], checkpoints[1]] };
    world.watch.counts.freezes += 1;
    world.trace(`${this.name} freezes`);
    this.member?.hangUp();
    this.#tell();
  }

  #thaw(): void {
    const { proof } = this.folder;
    if (proof !== null && !provesEquivocation(this.leadership, proof.checkpoints, this.leadership.epoch))
      this.folder.proof = null;
  }

  #tell(): void {
    const { proof } = this.folder;
    if (proof === null) return;
    for (const peer of this.world.peers) {
      if (peer === this.peer) continue;
      this.host
        .dial(peer, [])
        .then((connection) =>
          tellConflict(connection, this.world.mesh, proof.checkpoints, this.#ending.signal),
        )
        .catch(() => {});
    }
    this.machine.after(TELL_AGAIN_MS, () => this.#tell());
  }

  /** While no founder answers it asks the others what they know of the mesh. */
  #look(): void {
    this.machine.after(LOOK_MS * this.machine.random.between(0.9, 1.1), () => {
      this.#look();
      if (this.member?.core?.online === true) return;
      for (const peer of this.world.peers) {
        if (peer === this.peer) continue;
        this.host
          .dial(peer, [])
          .then((connection) => askTip(connection, this.world.mesh, this.#ending.signal))
          .then((tip) => this.takeHandovers(tip.handovers))
          .catch(() => {});
      }
    });
  }
}
