import { randomUUID } from 'node:crypto';
import type { Capacity, Lender } from '../../protocol/session.ts';
import type { ModelObject } from '../api/objects.ts';
import { choose } from '../brain/choose.ts';
import { measure, Speeds } from '../brain/speed.ts';
import { type Brain, BrainError, type Model } from '../brain/types.ts';
import { AllModels } from '../infer/all-models.ts';
import { MeshBrain } from '../infer/brain.ts';
import { OfferedModels, unmeasured } from '../infer/offered.ts';
import { type InferenceServer, serveInference } from '../infer/server.ts';
import { privateAddresses } from '../network/announcer.ts';
import type { Registry } from '../network/registry.ts';
import { brainsOf, UsedModels } from './brains.ts';
import { EndpointSwitch } from './endpoint-switch.ts';
import { LentModelServers } from './lent-models.ts';
import type { Machine } from './machine.ts';

/** Models whose speed is measured at the start, the smallest first: a large one has to be loaded for it. */
const MEASURED_MAX = 4;
/** Each of them, its loading included. */
const MEASURE_MS = 60_000;
const LIST_MS = 10_000;

export interface MemberModelsOptions {
  machine: Pick<Machine, 'config' | 'configure' | 'logger'>;
  me: { readonly id: string; readonly name: string };
  /** Where members that ask may dial this machine. */
  listens(): string[];
}

/** The models that this machine may ask: its own, which it lends to members, and those that others lend to it. */
export class MemberModels {
  readonly servers: LentModelServers;
  readonly speeds = new Speeds();
  readonly used = new UsedModels();
  /** What the model servers of this machine offer. */
  readonly offered: OfferedModels;
  readonly mesh: MeshBrain;
  readonly all: AllModels;
  readonly endpoint: EndpointSwitch;
  readonly #options: MemberModelsOptions;
  readonly #own: () => Promise<Brain[]>;
  #known: readonly Brain[] = [];
  #lenders: readonly Lender[] = [];
  #registry: Registry | null = null;
  #inference: InferenceServer | null = null;
  #free: () => boolean = () => false;
  #measuring: { stop: AbortController; done: Promise<void> } | null = null;
  #measured = false;

  constructor(options: MemberModelsOptions) {
    const { machine, me } = options;
    this.#options = options;
    this.servers = new LentModelServers(machine);
    const own = brainsOf(this.servers, this.used);
    this.#own = async () => {
      this.#known = await own();
      return [...this.#known];
    };
    this.offered = new OfferedModels(this.#own, this.speeds);
    this.mesh = new MeshBrain({
      lenders: () => this.#lenders.filter(({ peer }) => this.#registry?.access.isMember(peer) === true),
      connect: async ({ peer, addresses }, signal) => {
        if (this.#registry === null) throw new BrainError('unreachable', 'this machine is starting');
        return this.#registry.host.dial(peer, addresses, signal);
      },
    });
    this.all = new AllModels({
      me: () => ({ peer: me.id, name: me.name }),
      local: this.offered,
      mesh: this.mesh,
    });
    this.endpoint = new EndpointSwitch(machine, this.all);
  }

  /** Called when what this machine offers is to be measured anew. */
  set changed(changed: () => Promise<void>) {
    this.servers.changed = changed;
  }

  /** What a goal may be pursued with. */
  async brains(): Promise<Brain[]> {
    const own = await this.#own();
    return this.#lenders.length === 0 ? own : [...own, this.mesh];
  }

  /** All members that lend models now, as the founder says. */
  learn(lenders: readonly Lender[]): void {
    this.#lenders = lenders
      .filter(({ peer }) => peer !== this.#options.me.id)
      .map((lender) => ({ ...lender, addresses: privateAddresses(lender.addresses) }));
    this.mesh.changed();
  }

  /** Who lends models to this machine, and at which addresses it is dialled. */
  get lenders(): readonly Lender[] {
    return this.#lenders;
  }

  /** What is told of the models of these names; null: the owner keeps them to this machine. */
  lends(names: readonly string[]): NonNullable<Capacity['lends']> | null {
    const { machine, listens } = this.#options;
    const addresses = privateAddresses(listens()).map((address) => address.replace(/\/p2p\/[^/]+$/, ''));
    if (!machine.config.infer || names.length === 0 || addresses.length === 0) return null;
    const models = names.map((name) => ({ name, ...this.#speedOf(name) }));
    return { addresses, models };
  }

  #speedOf(name: string): NonNullable<ReturnType<Speeds['of']>> {
    for (const { server } of this.#known) {
      const speed = this.speeds.of(server, name);
      if (speed !== null) return speed;
    }
    return unmeasured;
  }

  /** Lends the models of this machine while its owner says that it is free, and lets those of others be asked. */
  async open(registry: Registry, free: () => boolean): Promise<void> {
    const { machine } = this.#options;
    this.#registry = registry;
    this.#free = free;
    this.#inference = await serveInference({
      registry,
      models: this.offered,
      lends: () => machine.config.infer && free(),
      onRequest: (peer, model, correlation) =>
        machine.logger.info({ peer, model, correlation }, 'a member asks a model of this machine'),
    });
    this.measureSpeeds();
    await this.endpoint.start();
  }

  /** Every model that can be asked from here, this machine's first; each of another machine once for each that lends it. */
  async list(): Promise<ModelObject[]> {
    const { me } = this.#options;
    const signal = AbortSignal.timeout(LIST_MS);
    const [own, lent] = await Promise.all([this.offered.all(), this.mesh.offers(signal)]);
    const facts = ({ name, contextTokens, tools }: Model) => ({ name, contextTokens, tools });
    return [
      ...own.map(({ brain, model }) => ({
        ...facts(model),
        node: { id: me.id, name: me.name },
        own: true,
        server: isHere(brain.server) ? null : brain.server,
        ...(this.speeds.of(brain.server, model.name) ?? unmeasured),
      })),
      ...lent.flatMap(({ lender: { peer, name }, offer }) =>
        offer.models.map((model) => ({
          ...facts(model),
          node: { id: peer, name },
          own: false,
          server: null,
          promptTokensPerSecond: model.promptTokensPerSecond,
          generateTokensPerSecond: model.generateTokensPerSecond,
        })),
      ),
    ];
  }

  /** Lets go of every model that is asked for others, or measured, at once. */
  drop(): void {
    this.#inference?.drop();
    this.#measuring?.stop.abort(new Error('the machine is its owner\u2019s'));
  }

  /** Measures in the background, once in the life of this process and while the machine is free; does not wait for it. */
  measureSpeeds(): void {
    if (this.#measured || !this.#free()) return;
    if (this.#measuring !== null && !this.#measuring.stop.signal.aborted) return;
    const stop = new AbortController();
    const done = this.#measure(stop.signal)
      .then(() => {
        this.#measured = true;
      })
      // Not free any more; it begins anew when it is.
      .catch(() => {})
      .finally(() => {
        if (this.#measuring?.stop === stop) this.#measuring = null;
      });
    this.#measuring = { stop, done };
  }

  /** Rejects where it is stopped. A model that does not answer stays unmeasured. */
  async #measure(stop: AbortSignal): Promise<void> {
    const offers = (await this.offered.all()).map(({ brain, model }) => ({
      of: brain,
      brain: brain.name,
      place: brain.place,
      server: brain.server,
      model,
      speed: null,
    }));
    const wishes = { model: null, brain: null, contextTokens: null, tools: 'none', cloud: false } as const;
    for (const { offer } of choose(offers, wishes).candidates.slice(0, MEASURED_MAX)) {
      stop.throwIfAborted();
      const { logger } = this.#options.machine;
      try {
        const signal = AbortSignal.any([stop, AbortSignal.timeout(MEASURE_MS)]);
        const speed = await measure(offer.of, offer.model.name, this.speeds, randomUUID(), signal);
        logger.info({ model: offer.model.name, ...speed }, 'the speed of a model was measured');
      } catch (thrown) {
        stop.throwIfAborted();
        logger.info({ model: offer.model.name, cause: String(thrown) }, 'the speed of a model is not known');
      }
      await this.servers.changed();
    }
  }

  async close(): Promise<void> {
    this.#free = () => false;
    this.drop();
    await this.endpoint.close();
    await this.#measuring?.done;
  }
}

/** A model server of this very machine. */
const isHere = (server: string): boolean => /^https?:\/\/(127\.|localhost[:/]|\[::1\])/.test(`${server}/`);
