import { SuperfleetError } from '../../protocol/errors.ts';
import type { ModelServerObject } from '../api/objects.ts';
import { modelServers } from '../doctor/models.ts';
import { askModels, type LentModels, modelServersMax, modelServerUrl } from '../offer/models.ts';
import type { Machine } from './machine.ts';

/** Model servers elsewhere on the LAN whose models this machine offers to the mesh; kept in its config. */
export class LentModelServers {
  readonly #machine: Pick<Machine, 'config' | 'configure' | 'logger'>;
  /** Those that did not answer when last asked; each silence is told once. */
  readonly #silent = new Set<string>();

  /** Called when what this machine offers is to be measured anew. */
  changed: () => Promise<void> = async () => {};

  constructor(machine: Pick<Machine, 'config' | 'configure' | 'logger'>) {
    this.#machine = machine;
  }

  /** Names of the models that they offer now, and what they speak. */
  async offer(): Promise<{ models: string[]; brains: string[] }> {
    const answering = (await this.#ask()).filter(({ fault }) => fault === null);
    return {
      models: answering.flatMap(({ models }) => models),
      brains: [...new Set(answering.map(({ speaks }) => (speaks === 'Ollama' ? 'ollama' : 'openai')))],
    };
  }

  async list(): Promise<ModelServerObject[]> {
    const [found, lent] = await Promise.all([modelServers(), this.#ask()]);
    return [
      ...found.map(({ name, port, models }) => ({
        url: `http://127.0.0.1:${port}`,
        from: 'found' as const,
        speaks: name,
        models,
        fault: null,
      })),
      ...lent.map((one) => ({ ...one, from: 'lent' as const })),
    ];
  }

  async add(text: string): Promise<ModelServerObject> {
    const url = modelServerUrl(text);
    // Looked at when it is its turn: others may be added and removed meanwhile.
    await this.#machine.configure(({ models }) => {
      if (models.includes(url)) return {};
      if (models.length < modelServersMax) return { models: [...models, url] };
      throw new SuperfleetError('SF_FULL', 'this machine lends no more model servers', {
        expected: `at most ${modelServersMax}`,
        hint: 'mesh-node models remove URL',
      });
    });
    await this.changed();
    return { ...(await askModels(url)), from: 'lent' };
  }

  async remove(text: string): Promise<void> {
    const { models } = this.#machine.config;
    const url = models.includes(text) ? text : modelServerUrl(text);
    if (!models.includes(url)) {
      throw new SuperfleetError('SF_NOT_FOUND', `this machine does not lend ${url}`, {
        expected: models.join(', ') || 'none is lent',
        hint: 'mesh-node models list',
      });
    }
    await this.#machine.configure((now) => ({ models: now.models.filter((one) => one !== url) }));
    await this.changed();
  }

  async #ask(): Promise<LentModels[]> {
    const asked = await Promise.all(this.#machine.config.models.map(askModels));
    for (const { url, fault } of asked) {
      if (fault !== null && !this.#silent.has(url)) {
        this.#machine.logger.warn({ url, fault }, 'a model server that this machine lends does not answer');
      }
      if (fault === null) this.#silent.delete(url);
      else this.#silent.add(url);
    }
    return asked;
  }
}
