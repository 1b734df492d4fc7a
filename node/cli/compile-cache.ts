import { mkdirSync, statSync } from 'node:fs';
import { enableCompileCache, flushCompileCache } from 'node:module';
import { isAbsolute, join } from 'node:path';

/**
 * Has Node keep what it compiles in the user's own cache folder (`XDG_CACHE_HOME`, else `~/.cache`), which more than halves
 * the start of a command. What lies there is run as it is, so a folder that is not this user's alone is not used: neither
 * another's home under sudo nor anything in `/tmp`. Nothing depends on it; where it cannot be kept, nothing is said.
 */
export function keepCompiled(env: Record<string, string | undefined> = process.env): void {
  const uid = process.getuid?.();
  const { XDG_CACHE_HOME: xdg, HOME: home } = env;
  const base =
    xdg !== undefined && isAbsolute(xdg) ? xdg : home && isAbsolute(home) ? join(home, '.cache') : null;
  if (uid === undefined || base === null || env.NODE_COMPILE_CACHE !== undefined) return;
  try {
    const folder = join(base, 'superfleet', 'compiled');
    mkdirSync(folder, { recursive: true, mode: 0o700 });
    if ([base, join(base, 'superfleet'), folder].every((each) => isOnlyOf(uid, each)))
      enableCompileCache(folder);
  } catch {
    // No such folder can be had: the program starts as without it.
  }
}

/** Writes what was compiled until now; a process that lives long, or gives up its rights, does not wait for its end. */
export function saveCompiled(): void {
  flushCompileCache();
}

function isOnlyOf(uid: number, folder: string): boolean {
  const { uid: owner, mode } = statSync(folder);
  return owner === uid && (mode & 0o022) === 0;
}
