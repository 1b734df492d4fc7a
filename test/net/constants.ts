import { createHash } from 'node:crypto';
import { cpSync, existsSync, readdirSync, readFileSync, renameSync, rmSync, writeFileSync } from 'node:fs';
import { join, resolve } from 'node:path';
import { pathToFileURL } from 'node:url';

/** Constants that a test makes small, so that what they bound is met soon; and where the sources have them. */
const FILES = {
  backfillBytesPerSecond: 'node/replica/backfill.ts',
  endedTasksMax: 'protocol/limits.ts',
  logPieceBytes: 'protocol/log-sync.ts',
  segmentBytes: 'protocol/limits.ts',
  snapshotEntries: 'hub/daemon/snapshots.ts',
  snapshotRest: 'hub/daemon/snapshots.ts',
} as const;

export type Constants = Partial<Record<keyof typeof FILES, number>>;

const BUILT = resolve(import.meta.dirname, '../../.built');
const HOOK = pathToFileURL(join(import.meta.dirname, 'constants-hook.ts'));

/**
 * What a program is started with to have these values: a build of its own beside the one that the tests run, half as long
 * to start as the sources, or a hook over the sources where there is none.
 */
export function withConstants(constants: Constants): NodeJS.ProcessEnv {
  const { SUPERFLEET_BUILD: build = '', NODE_OPTIONS: options = '' } = process.env;
  if (build !== '' && options === '' && existsSync(join(BUILT, build)))
    return { SUPERFLEET_BUILD: buildWith(build, constants) };
  return { NODE_OPTIONS: `${options} --import=${HOOK}?${encodeURIComponent(JSON.stringify(constants))}` };
}

/** The constants that stand in this source, by its URL. */
export const constantsOf = (url: string, constants: Constants): [string, number][] =>
  Object.entries(constants).filter(([name]) => url.endsWith(`/${FILES[name as keyof typeof FILES]}`));

/** The text with this value for what it declares by this name; as it was where it declares no such thing. */
export const withValue = (text: string, name: string, value: number): string =>
  text.replace(new RegExp(`^((?:export )?(?:const|var) ${name} =) [^;]*;`, 'm'), `$1 ${value};`);

/** Makes it unless it is there; answers its name. */
function buildWith(build: string, constants: Constants): string {
  const words = JSON.stringify(constants);
  const name = `${build}-${createHash('sha256').update(words).digest('hex').slice(0, 8)}`;
  const folder = join(BUILT, name);
  if (existsSync(folder)) return name;
  const making = `${folder}.${process.pid}`;
  cpSync(join(BUILT, build), making, { recursive: true });
  const left = new Set(Object.keys(constants));
  for (const path of readdirSync(making, { recursive: true, encoding: 'utf8' })) {
    if (!path.endsWith('.js')) continue;
    const text = readFileSync(join(making, path), 'utf8');
    let changed = text;
    for (const [constant, value] of Object.entries(constants)) {
      const before = changed;
      changed = withValue(changed, constant, value);
      if (changed !== before) left.delete(constant);
    }
    if (changed !== text) writeFileSync(join(making, path), changed);
  }
  if (left.size > 0) throw new Error(`no file of the build declares ${[...left].join(', ')}`);
  try {
    renameSync(making, folder);
  } catch (error) {
    // Another test has made the same.
    rmSync(making, { recursive: true });
    if (!existsSync(folder)) throw error;
  }
  return name;
}
