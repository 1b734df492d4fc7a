import { constants, readdirSync, readFileSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { ownFile } from '../own-program.ts';
import { type Persona, personaOf } from './persona.ts';
import type { Profile } from './profile.ts';

/** An operator's text is no longer than this. */
const promptBytesMax = 64 * 1024;

const TEXTS = ownFile('node/worker/prompts/');
// Read with the program: a node that was started as root cannot read it later, where only root may.
const OWN: ReadonlyMap<string, string> = new Map(
  readdirSync(TEXTS)
    .filter((name) => name.endsWith('.md'))
    .map((name) => [name, readFileSync(new URL(name, TEXTS), 'utf8')]),
);

/** What a model is told before its goal: this program's texts, or those an operator put in their place. */
export class Prompts {
  readonly #folder: string | null;

  /** `folder`: where an operator's texts lie by the same names, such as `full.md`; null: nowhere. */
  constructor(folder: string | null) {
    this.#folder = folder;
  }

  /** Names of the texts there are. */
  static names(): string[] {
    return [...OWN.keys()].sort();
  }

  /** The instructions of a task, and whom the model speaks as. */
  async instructions(
    { style, plans }: Pick<Profile, 'style' | 'plans'>,
    name: string,
  ): Promise<{ text: string; persona: Persona }> {
    const known = /^[a-z0-9_-]+$/i.test(name) ? await this.#text(`${name.toLowerCase()}.md`) : null;
    const role = known === null || /^(full|compact|plan)$/i.test(name) ? null : known;
    const parts = [await this.#text(`${style}.md`), plans ? await this.#text('plan.md') : null];
    const text = parts.flatMap((part) => part ?? []).join('\n');
    return { text: role === null ? text : `${role.trim()}\n\n${text}`, persona: personaOf(name, role) };
  }

  /** Null: there is none of that name. */
  async #text(name: string): Promise<string | null> {
    const own = OWN.get(name) ?? null;
    if (this.#folder === null) return own;
    const path = join(this.#folder, name);
    const file = await open(path, constants.O_RDONLY | constants.O_NONBLOCK).catch(
      (error: NodeJS.ErrnoException) => {
        if (error.code === 'ENOENT') return null;
        throw error;
      },
    );
    if (file === null) return own;
    try {
      const { size } = await file.stat();
      if (size <= promptBytesMax) return await file.readFile('utf8');
      throw new SuperfleetError('SF_USAGE', `the prompt ${path} is too long`, {
        expected: `at most ${promptBytesMax} bytes`,
        got: `${size} bytes`,
      });
    } finally {
      await file.close();
    }
  }
}
