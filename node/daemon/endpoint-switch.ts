import { randomBytes } from 'node:crypto';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { EndpointObject, EndpointWish } from '../api/objects.ts';
import { programVersion } from '../cli/version.ts';
import type { Config } from '../config.ts';
import type { AllModels } from '../infer/all-models.ts';
import { type Endpoint, openEndpoint } from '../infer/endpoint.ts';
import type { Machine } from './machine.ts';

const TOKEN_BYTES = 24;

/** The owner's switch of the endpoint, as `config.json` keeps it. */
export class EndpointSwitch {
  readonly #machine: Pick<Machine, 'config' | 'configure' | 'logger'>;
  readonly #models: AllModels;
  readonly #version = programVersion();
  #endpoint: Endpoint | null = null;
  #fault: string | null = null;
  #closed = false;
  /** One change at a time. */
  #last: Promise<unknown> = Promise.resolve();

  constructor(machine: Pick<Machine, 'config' | 'configure' | 'logger'>, models: AllModels) {
    this.#machine = machine;
    this.#models = models;
  }

  /** Opens it where it is on. Never rejects: a port that is taken keeps no machine from its work. */
  start(): Promise<void> {
    return this.#next(async () => {
      const { endpoint } = this.#machine.config;
      if (!endpoint.on) return;
      await this.#open(endpoint).catch((thrown: unknown) => this.#failed(thrown));
    });
  }

  state(): EndpointObject {
    return { ...this.#machine.config.endpoint, url: this.#endpoint?.url ?? null, fault: this.#fault };
  }

  /** Rejects with `SF_PORT_IN_USE`; it is as it was then. */
  set({ on, port, token }: EndpointWish): Promise<EndpointObject> {
    return this.#next(async () => {
      const before = this.#machine.config.endpoint;
      const wished = {
        on,
        port: port ?? before.port,
        token: token === undefined ? before.token : token ? newToken() : null,
      };
      const same = on && this.#endpoint !== null && JSON.stringify(wished) === JSON.stringify(before);
      if (same) return this.state();
      await this.#shut();
      try {
        if (on) await this.#open(wished);
        await this.#machine.configure({ endpoint: wished });
      } catch (error) {
        await this.#shut();
        if (before.on) await this.#open(before).catch((thrown: unknown) => this.#failed(thrown));
        throw error;
      }
      return this.state();
    });
  }

  /** What is under way ends at once; it opens no more. */
  close(): Promise<void> {
    this.#closed = true;
    return this.#next(() => this.#shut());
  }

  async #open({ port, token }: Config['endpoint']): Promise<void> {
    if (this.#closed) return;
    this.#endpoint = await openEndpoint({ models: this.#models, port, token, version: this.#version });
    this.#fault = null;
    this.#machine.logger.info({ url: this.#endpoint.url }, 'the models of the mesh answer here');
  }

  async #shut(): Promise<void> {
    this.#fault = null;
    await this.#endpoint?.close();
    this.#endpoint = null;
  }

  #failed(thrown: unknown): void {
    const { code, message } = asSuperfleetError(thrown);
    this.#fault = message;
    this.#machine.logger.warn({ code }, `the endpoint for models does not answer: ${message}`);
  }

  #next<T>(act: () => Promise<T>): Promise<T> {
    const done = this.#last.then(act);
    this.#last = done.catch(() => {});
    return done;
  }
}

const newToken = (): string => randomBytes(TOKEN_BYTES).toString('base64url');
