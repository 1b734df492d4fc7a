import { z } from 'zod';
import type { Environments } from '../environment/environments.ts';
import type { Prepared } from '../environment/prepared.ts';
import { type Answer, answer, type Hearer, hearer, nextNumber, number, type Service } from './answers.ts';
import type { Calls } from './calls.ts';
import type { LentEnvironment } from './order.ts';

const text = z.string().max(64 * 1024);
const path = z.string().min(1).max(4_096);
const digest = z.string().regex(/^[0-9a-f]{64}$/);
const texts = z.array(text).max(16_384);
const makes = z.array(z.strictObject({ in: z.enum(['workspace', 'home']), path })).max(1_024);
const recipe = z.strictObject({
  prepare: texts,
  reads: texts,
  makes,
  network: texts.nullable(),
  tools: texts,
});
const allowed = z.array(
  z.strictObject({
    host: z.string().max(1_024),
    ports: z.array(z.int().min(1).max(65_535)).optional(),
    addresses: z.array(z.string().max(256)).optional(),
  }),
);
const bound = z.number().min(0);
const limits = z.strictObject({ memoryBytes: bound, processes: bound, diskBytes: bound, wallMs: bound });

/** Prepared environments are the machine's: one is made once, however many attempts wait for it, and outlives them. */
export class EnvironmentService implements Service {
  readonly asks: Readonly<Record<string, Answer>>;
  readonly tells: Readonly<Record<string, Hearer>>;
  readonly #lent = new Map<number, Prepared>();
  /** Under way; a stopped one is over when no process of it is left. */
  readonly #making = new Set<Promise<Prepared>>();
  #closed = false;

  /** `calls`: to the worker, which has the log. */
  constructor(environments: Environments, calls: () => Pick<Calls, 'ask' | 'tell'>) {
    this.asks = {
      versions: answer(z.tuple([]), () => environments.versions()),
      use: answer(z.tuple([digest]), async ([name]) => {
        const found = await (await environments.store()).use(name);
        return found === null ? null : this.#lend(found);
      }),
      prepare: answer(
        z.tuple([number, z.strictObject({ checkout: path, recipe, digest, allowed, limits })]),
        async ([at, wanted], signal) => {
          // One that others wait for goes on without the worker that asked first.
          const ask = async (of: string, what: unknown): Promise<void> => {
            await calls()
              .ask(of, [at, what])
              .catch(() => {});
          };
          const log = {
            say: (line: string) => ask('prepareSays', line),
            write: (chunk: Uint8Array) => ask('prepareWrites', chunk),
          };
          const request = {
            ...wanted,
            allowed: wanted.allowed.map(({ host, ports, addresses }) => ({
              host,
              ...(ports === undefined ? {} : { ports }),
              ...(addresses === undefined ? {} : { addresses }),
            })),
            log,
          };
          const onNetwork = (event: unknown): void => calls().tell('prepareReached', at, event);
          const making = (await environments.store()).prepare({ ...request, onNetwork }, signal);
          this.#making.add(making);
          return this.#lend(await making.finally(() => this.#making.delete(making)));
        },
      ),
      shipped: answer(
        z.tuple([z.strictObject({ task: text, digest, name: digest, makes, bytesMax: bound })]),
        async ([wanted], signal) => {
          const found = await environments.shipped(wanted, signal);
          return found === null ? null : { ...found, environment: this.#lend(found.environment) };
        },
      ),
    };
    this.tells = {
      environmentDone: hearer(z.tuple([number]), ([lent]) => {
        this.#lent.get(lent)?.release();
        this.#lent.delete(lent);
      }),
    };
  }

  #lend(prepared: Prepared): LentEnvironment {
    const lent = nextNumber();
    if (this.#closed) prepared.release();
    else this.#lent.set(lent, prepared);
    return { number: lent, folder: prepared.folder, file: prepared.file };
  }

  async close(): Promise<void> {
    this.#closed = true;
    for (const prepared of this.#lent.values()) prepared.release();
    this.#lent.clear();
    await Promise.allSettled(this.#making);
  }
}
