import { text } from 'node:stream/consumers';
import type { Sandbox } from '../sandbox/types.ts';

/** Tools a task may ask for by name, and how each is asked for its version. */
const TOOLS: Readonly<Record<string, string>> = {
  bash: '--version',
  bun: '--version',
  cargo: '--version',
  clang: '--version',
  cmake: '--version',
  deno: '--version',
  gcc: '--version',
  git: '--version',
  go: 'version',
  java: '-version',
  make: '--version',
  node: '--version',
  npm: '--version',
  perl: "-e 'print $^V'",
  pnpm: '--version',
  python3: '--version',
  ruby: '--version',
  rustc: '--version',
};
/** Of these the version stands beside the program; to start one only for that takes longer than all others together. */
const PACKAGED = new Set(['npm', 'pnpm']);
const PACKAGED_SH = `packaged() {
  at=$(dirname "$(readlink -f "$(command -v "$1")")")/../package.json
  grep -q '"name": "'"$1"'"' "$at" && grep -m 1 '"version"' "$at"
} 2>/dev/null`;
const TOOL_S = 5;
const ALL_MS = 30_000;
const VERSION_CHARS_MAX = 128;

/**
 * Versions of the tools that tasks will find, asked inside the sandbox: what lies in the owner's home is not there for a
 * task either, and nothing of it is run outside. Empty where no sandbox works.
 */
export async function toolVersions(sandbox: Sandbox, signal?: AbortSignal): Promise<Record<string, string>> {
  const asks = Object.entries(TOOLS).map(([name, flag]) => {
    const asked = `timeout ${TOOL_S} ${name} ${flag} 2>&1 </dev/null | grep -m 1 '[0-9]'`;
    const said = PACKAGED.has(name) ? `packaged ${name} || ${asked}` : asked;
    return `if command -v ${name} >/dev/null; then echo "${name} $(${said})"; fi`;
  });
  const script = [PACKAGED_SH, ...asks].join('\n');
  const run = sandbox.start(
    {
      argv: ['sh', '-c', script],
      env: { LC_ALL: 'C' },
      mounts: [],
      cwd: '/tmp',
      limits: {
        memoryBytes: 2 * 1024 ** 3,
        processes: 256,
        diskBytes: null,
        watchBytesIn: null,
        wallMs: ALL_MS,
      },
      stdin: null,
    },
    signal ?? AbortSignal.timeout(ALL_MS),
  );
  run.stderr.resume();
  try {
    const [out] = await Promise.all([text(run.stdout), run.ended]);
    return parseVersions(out);
  } catch {
    return {};
  }
}

/** Pure: `name version` lines; a tool that said nothing with a digit is left out. */
export function parseVersions(out: string): Record<string, string> {
  const found: Record<string, string> = {};
  for (const line of out.split('\n')) {
    const [, name, said] = /^([a-z0-9]+) (.*\d.*)$/.exec(line) ?? [];
    if (name === undefined || said === undefined || !Object.hasOwn(TOOLS, name)) continue;
    const version = /\d+(?:\.[\w+-]+)+|\d+/.exec(said)?.[0];
    if (version !== undefined) found[name] = version.slice(0, VERSION_CHARS_MAX);
  }
  return found;
}
