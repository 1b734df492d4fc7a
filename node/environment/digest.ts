import { createHash } from 'node:crypto';
import type { Recipe } from './detect.ts';

/** All that decides what a prepared environment holds. */
export interface DigestInput {
  recipe: Pick<Recipe, 'prepare' | 'makes'>;
  /** SHA-256 in hex by path, of the files that are there. */
  files: Readonly<Record<string, string>>;
  /** Versions by name of a tool, of those that are there. */
  tools: Readonly<Record<string, string>>;
  /** A value of `process.platform` and one of `process.arch`. */
  platform: string;
  arch: string;
}

/**
 * The text that a prepared environment is named by: one fact a line, each a word and JSON values with spaces between, every
 * line ended by a newline. Lines of a kind stand together, in this order:
 *
 * ```text
 * superfleet-environment 1
 * machine "linux" "x64"
 * tool "node" "20.20.2"                    by name
 * file "package-lock.json" "9f86d0…"       by path, SHA-256 in hex
 * prepare "npm ci"                         in the order they run
 * makes "workspace" "node_modules"         by place and path
 * ```
 *
 * Names are ordered by their UTF-16 code units, as JavaScript does. JSON leaves no newline in a value, so different facts
 * never give one text.
 */
export function digestText({ recipe, files, tools, platform, arch }: DigestInput): string {
  const line = (kind: string, ...values: string[]): string =>
    `${[kind, ...values.map((value) => JSON.stringify(value))].join(' ')}\n`;
  const makes = recipe.makes.map((made) => line('makes', made.in, made.path)).sort();
  return [
    'superfleet-environment 1\n',
    line('machine', platform, arch),
    ...sorted(tools).map(([name, version]) => line('tool', name, version)),
    ...sorted(files).map(([path, digest]) => line('file', path, digest)),
    ...recipe.prepare.map((each) => line('prepare', each)),
    ...new Set(makes),
  ].join('');
}

/** SHA-256 of `digestText`, 64 hex digits: the name of a prepared environment. */
export const environmentDigest = (input: DigestInput): string =>
  createHash('sha256').update(digestText(input)).digest('hex');

/**
 * The name that an environment is kept by. What lines make may rest on more of a repository than they name, such as a script that an
 * installation runs: so neither another repository is given it nor another submitter, whose results it could spoil.
 */
export const environmentName = (
  submitter: string | null,
  repository: string | null,
  digest: string,
): string =>
  createHash('sha256')
    .update(`${submitter ?? ''}\n${repository ?? ''}\n${digest}`)
    .digest('hex');

const sorted = (record: Readonly<Record<string, string>>): [string, string][] =>
  Object.entries(record).sort(([a], [b]) => (a < b ? -1 : a > b ? 1 : 0));
