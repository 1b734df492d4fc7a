/**
 * What a process of this program that runs by itself needs of the environment, by name: where programs and temporary files lie,
 * who it is, its locale and time zone, how Node and its libraries are found and set up, and the clock of tests (libfaketime).
 */
const needed = new Set([
  'PATH',
  'HOME',
  'USER',
  'LOGNAME',
  'TMPDIR',
  'TMP',
  'TEMP',
  'TZ',
  'LANG',
  'LANGUAGE',
  'LD_LIBRARY_PATH',
  'LD_PRELOAD',
  'MALLOC_ARENA_MAX',
  'NODE_COMPILE_CACHE',
  'NODE_DISABLE_COMPILE_CACHE',
  'UV_THREADPOOL_SIZE',
  'UV_USE_IO_URING',
]);
const neededPrefixes = ['LC_', 'FAKETIME'];

/**
 * The environment of a process that this one starts of its own program. Secrets of whoever started the node are not in it, nor is
 * what somebody loads into the node to measure it (`NODE_OPTIONS`).
 */
export function ownEnvironment(env: NodeJS.ProcessEnv = process.env): NodeJS.ProcessEnv {
  const kept = Object.entries(env).filter(
    ([name]) => needed.has(name) || neededPrefixes.some((prefix) => name.startsWith(prefix)),
  );
  return Object.fromEntries(kept);
}
