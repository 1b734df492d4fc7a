import { createHash } from 'node:crypto';
import type { FounderConfig } from '../../hub/core/config.ts';
import { FounderCore } from '../../hub/core/founder.ts';
import { EffectGate } from '../../hub/core/gate.ts';
import type { EnvelopeChecks } from '../../hub/core/results/checks.ts';
import type { FounderEffect, FounderInput, HeldEffect, Operation } from '../../hub/core/types.ts';
import { canonicalJson } from '../../ledger/lines/canonical-json.ts';
import type { Entry, KnownEntry } from '../../ledger/lines/entry.ts';
import type { Actor, LogEvent } from '../../ledger/lines/events.ts';
import { defaultBounds, type StateBounds } from '../../ledger/state/reducer.ts';
import {
  initialState,
  loadState,
  type MeshState,
  replay,
  type SavedState,
  saveState,
} from '../../ledger/state/state.ts';
import type { ErrorObject } from '../../protocol/errors.ts';
import type { FounderMessage } from '../../protocol/session.ts';
import { recalledFrom } from '../ledger/archived.ts';
import type { Machine } from './machine.ts';

type Collect = Extract<FounderEffect, { type: 'collect' }>;

/** What the founder's driver needs of the world. */
export interface FounderWorld {
  mesh: string;
  checks: EnvelopeChecks;
  send(peer: string, session: number, message: FounderMessage): void;
  close(peer: string, session: number): void;
  /** Whether the member can give what its result names, now. */
  fetch(effect: Collect): 'ok' | 'gone' | 'bad' | 'disk';
  answered(request: number, result: unknown, error: ErrorObject | null): void;
  released(effect: HeldEffect): void;
  /** Takes each entry once it is on the disk for good, in order. */
  synced?(entry: Entry): void;
  /** What its core decided in a step, and whose input that was. */
  stepped?(core: FounderCore, events: readonly LogEvent[], peer: string | null): void;
  trace(text: string): void;
}

/** Ticks are at least so far apart. */
const tickApartMs = 25;

/** The founder's process: its core, a log whose synced lines outlive it, and the gate between them. */
export class FounderHost {
  readonly machine: Machine;
  readonly world: FounderWorld;
  /** The disk: lines written, of which the first `durable` are synced. */
  lines: string[] = [];
  durable = 0;
  readonly blobs = new Set<string>();
  core: FounderCore | null = null;
  /** Slower syncs for a while. */
  syncMs = 2;
  /** Nothing can be stored but what the log has room kept for. */
  diskIsFull = false;
  /** When its disk last was well again. */
  disturbedAt = Number.NEGATIVE_INFINITY;
  readonly config: Partial<FounderConfig>;
  /** How much its state keeps. */
  readonly bounds: StateBounds;
  /** Starts go by a snapshot. */
  fromSnapshots = false;
  restarts = 0;
  secrets = new Map<string, string>();
  #gate = new EffectGate<HeldEffect>(-1);
  #syncing = 0;
  /** Whether some inputs wait for the next one, to be one step with it. */
  protected readonly merges: boolean = true;
  /** What is taken with the next step. */
  readonly #together: FounderInput[] = [];
  #told = 0;

  constructor(
    machine: Machine,
    world: FounderWorld,
    bounds: StateBounds = defaultBounds,
    config: Partial<FounderConfig> = {},
  ) {
    this.config = config;
    this.machine = machine;
    this.world = world;
    this.bounds = bounds;
  }

  /** Entries as they are read back from the disk. */
  entries(count: number = this.lines.length): Entry[] {
    return this.lines.slice(0, count).map((line) => JSON.parse(line) as Entry);
  }

  write(event: LogEvent, epoch = 1): void {
    const time = this.machine.clock().time;
    this.lines.push(JSON.stringify({ index: this.lines.length, epoch, time, ...event }));
    this.durable = this.lines.length;
    this.#tell();
  }

  get diskIsBad(): boolean {
    return this.syncMs > 2 || this.diskIsFull;
  }

  /** The disk does what a disk should again. */
  mendDisk(): void {
    this.syncMs = 2;
    this.diskIsFull = false;
    this.disturbedAt = this.machine.schedule.now;
  }

  #tell(): void {
    const { synced } = this.world;
    if (synced === undefined) return;
    for (; this.#told < this.durable; this.#told += 1)
      synced.call(this.world, JSON.parse(this.lines[this.#told]!) as Entry);
  }

  boot(): void {
    this.machine.start();
    this.#together.length = 0;
    this.#syncing = 0;
    this.lead(this.#replayed());
  }

  /** Begins to decide, from what the log holds. */
  protected lead(state: MeshState): void {
    this.#gate = new EffectGate(this.durable - 1);
    const { mesh, checks } = this.world;
    this.#tickAt = Number.POSITIVE_INFINITY;
    this.core = new FounderCore({ mesh, state, checks, config: this.config }, this.machine.clock());
    this.step({ type: 'secrets', values: new Map(this.secrets) });
    this.#planTick();
  }

  /** From the whole log, or from a snapshot of some of it through the text that its file would have. */
  #replayed(): MeshState {
    const entries = this.entries();
    if (!this.fromSnapshots) return replay(entries, initialState(this.bounds));
    const cut = Math.ceil(entries.length * 0.8);
    const text = canonicalJson(saveState(replay(entries.slice(0, cut), initialState(this.bounds))));
    const state = loadState(JSON.parse(text) as SavedState, this.bounds);
    if (state === null) throw new Error('a state that was just saved was not loaded');
    this.restarts += 1;
    return replay(entries.slice(cut), state);
  }

  /** Power goes: of what was not synced, a batch that was being written may be whole on the disk, or not be there. */
  crash(): void {
    const kept = this.machine.random.chance(0.3) ? Math.max(this.durable, this.#syncing) : this.durable;
    this.lines.length = kept;
    this.durable = kept;
    this.#tell();
    this.core = null;
    this.machine.kill();
  }

  request(request: number, by: Actor, operation: Operation): void {
    this.machine.deliver(() => this.step({ type: 'request', request, by, operation }));
  }

  step(input: FounderInput): void {
    if (this.core === null) return;
    // As a driver does with what comes in one turn of its event loop.
    if (
      (input.type === 'collected' || input.type === 'received') &&
      this.merges &&
      this.machine.random.chance(0.3)
    ) {
      this.#together.push(input);
      if (this.#together.length === 1) this.machine.after(1, () => this.takeWaiting());
      return;
    }
    this.#stepAll([...this.#together.splice(0), input]);
  }

  /** What waits to be taken with the next step is one of its own. */
  takeWaiting(): void {
    if (this.#together.length > 0) this.#stepAll(this.#together.splice(0));
  }

  #stepAll(inputs: readonly FounderInput[]): void {
    if (this.core === null) return;
    const outward: HeldEffect[] = [];
    const events: LogEvent[] = [];
    const { core } = this;
    for (const effect of core.stepAll(inputs, this.machine.clock())) {
      if (effect.type === 'append') {
        this.append(effect);
        events.push(...effect.made.map(({ entry }) => entry as KnownEntry));
      } else if (effect.type === 'collect') this.#collect(effect);
      else outward.push(effect);
    }
    this.#planTick();
    this.world.stepped?.(core, events, peerOf(inputs.at(-1)!));
    this.#gate.hold(outward);
    this.#release();
  }

  protected append({ made }: Extract<FounderEffect, { type: 'append' }>): void {
    for (const { entry, line } of made) {
      if (entry.index !== this.lines.length)
        throw new Error(`append at ${entry.index}, the log has ${this.lines.length} lines`);
      this.lines.push(line);
      this.world.trace(`log ${line}`);
    }
    this.#sync();
  }

  /** Group commit: one sync at a time, of all that was written when it began. */
  #sync(): void {
    if (this.#syncing > this.durable || this.lines.length === this.durable) return;
    this.#syncing = this.lines.length;
    this.machine.after(this.syncMs * this.machine.random.between(0.2, 2), () => {
      this.synced(this.#syncing, { text: `sim\n${this.#syncing}\nroot\n`, root: 'root' });
      this.#sync();
    });
  }

  protected synced(size: number, { text, root }: { text: string; root: string }): void {
    this.durable = size;
    this.#tell();
    this.step({ type: 'durable', index: size - 1, checkpoint: text, root });
    this.#release();
  }

  #release(): void {
    this.#gate.durable(this.durable - 1);
    for (const effect of this.#gate.release()) this.#perform(effect);
  }

  #perform(effect: HeldEffect): void {
    this.world.released(effect);
    switch (effect.type) {
      case 'send':
        this.world.send(effect.peer, effect.session, effect.message);
        break;
      case 'answer':
        this.world.answered(effect.request, effect.result, effect.error);
        break;
      case 'close': {
        const { code, message } = effect;
        this.world.send(effect.peer, effect.session, { type: 'goodbye', code, message });
        this.world.close(effect.peer, effect.session);
        break;
      }
      case 'recall':
        this.#recall(effect);
        break;
      case 'membership':
        break;
      default:
        effect satisfies never;
    }
  }

  #collect(effect: Collect): void {
    const { peer, lease } = effect;
    const slow = this.machine.random.chance(0.1) ? 3_000 : 50;
    this.machine.after(this.machine.random.between(1, slow), () => {
      const outcome = this.world.fetch(effect);
      if (outcome !== 'ok') {
        const failure = { kind: outcome, detail: `simulated: ${outcome}` };
        this.step({ type: 'collected', peer, lease, envelopeBlob: null, failure });
        return;
      }
      const envelopeBlob = createHash('sha256').update(effect.envelope!).digest('hex');
      this.blobs.add(envelopeBlob);
      for (const { blob } of effect.blobs) this.blobs.add(blob);
      this.step({ type: 'collected', peer, lease, envelopeBlob, failure: null });
    });
  }

  /** Read when it is released, as the disk is then; the answer takes its time. */
  #recall({ wanted, purpose }: Extract<FounderEffect, { type: 'recall' }>): void {
    const found = recalledFrom(this.entries(this.durable), wanted);
    this.machine.after(this.machine.random.between(1, 200), () =>
      this.step({ type: 'recalled', purpose, found, error: null }),
    );
  }

  #tickAt = Number.POSITIVE_INFINITY;

  /** As the driver does: ticked when the core asks for that, and no sooner. */
  #planTick(): void {
    const { now } = this.machine.clock();
    const at = Math.max(this.core?.tickAt ?? Number.POSITIVE_INFINITY, now + tickApartMs);
    if (this.#tickAt <= at || at === Number.POSITIVE_INFINITY) return;
    this.#tickAt = at;
    this.machine.after(Math.ceil(at - now), () => {
      if (this.#tickAt !== at) return;
      this.#tickAt = Number.POSITIVE_INFINITY;
      if ((this.core?.tickAt ?? at) <= this.machine.clock().now) this.step({ type: 'tick' });
      else this.#planTick();
    });
  }
}

const peerOf = (input: FounderInput): string | null => ('peer' in input ? input.peer : null);
