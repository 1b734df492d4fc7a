import { constants, readFileSync } from 'node:fs';
import { access, copyFile, mkdir, rename, rm, stat } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { fileURLToPath } from 'node:url';
import { ownFile, reachableFile } from '../own-program.ts';
import type { Mount } from '../sandbox/types.ts';

const PLACE = '/run/superfleet';

/** What a forwarder connects. */
export interface Forwarding {
  /** A Unix socket of this machine. */
  socket: string;
  /** Port of 127.0.0.1 in the sandbox. @default 0, any that is free */
  port?: number;
  /** Variables of the command that are to hold `http://127.0.0.1:PORT`. */
  variables: readonly string[];
}

/** What a sandbox is given, and how its forwarder is started there. */
export interface RuntimeParts {
  mounts: Mount[];
  start: string[];
}

/** What programs look for to find a proxy: npm, pip, cargo and go among them. */
export const proxyVariables: readonly string[] = ['http_proxy', 'https_proxy', 'HTTP_PROXY', 'HTTPS_PROXY'];

/** The Node that runs this program, as a sandbox can be given it: read-only, with the libraries it needs. */
export class SandboxRuntime {
  /** Plain values, for another process to be told of. */
  readonly parts: RuntimeParts;

  constructor(parts: RuntimeParts) {
    this.parts = parts;
  }

  /**
   * Finds what is to be mounted. What the account of this process can't come to by its path is copied to `folder`, once for
   * each version of Node.
   */
  static async open(folder: string): Promise<SandboxRuntime> {
    const forwarder = fileURLToPath(ownFile('node/environment/forwarder.js'));
    const libraries = foreignLibraries();
    const files = [
      { path: process.execPath, to: `${PLACE}/node`, mode: constants.R_OK | constants.X_OK },
      { path: forwarder, to: `${PLACE}/forwarder.mjs`, mode: constants.R_OK },
      ...libraries.map((path) => ({ path, to: `${PLACE}/lib/${basename(path)}`, mode: constants.R_OK })),
    ];
    const mounts: Mount[] = [];
    for (const { path, to, mode } of files) {
      const direct = await access(path, mode).then(
        () => true,
        () => false,
      );
      mounts.push({ from: direct ? path : await copied(path, folder), to, writable: false });
    }
    const loader = libraries.map((path) => basename(path)).find((name) => name.startsWith('ld-'));
    // Node finds its own libraries by the system's loader, unless that is a foreign one too.
    const start =
      libraries.length === 0
        ? [`${PLACE}/node`]
        : [
            loader === undefined ? systemLoader() : `${PLACE}/lib/${loader}`,
            '--library-path',
            `${PLACE}/lib`,
            `${PLACE}/node`,
          ];
    return new SandboxRuntime({ mounts, start: [...start, `${PLACE}/forwarder.mjs`] });
  }

  /** `argv` behind a forwarder, and what the sandbox must show for it. */
  forwarded(forwarding: Forwarding, argv: readonly string[]): { argv: string[]; mounts: Mount[] } {
    const to = `${PLACE}/forwarded.sock`;
    return {
      argv: [...this.parts.start, to, String(forwarding.port ?? 0), forwarding.variables.join(','), ...argv],
      mounts: [...this.parts.mounts, { from: forwarding.socket, to, writable: false }],
    };
  }
}

/** Libraries of this process that no sandbox shows. */
export function foreignLibraries(maps = readFileSync('/proc/self/maps', 'utf8')): string[] {
  const paths = maps.split('\n').map((line) => /^\S+ ..x. \S+ \S+ \d+ +(\/.*)$/.exec(line)?.[1] ?? '');
  return [...new Set(paths)].filter(
    (path) => /\.so(\.[\d.]+)?$/.test(path) && !/^\/(usr|lib|lib32|lib64|libx32)\//.test(path),
  );
}

function systemLoader(): string {
  const found = /\s(\/\S*\/ld-[\w.-]+\.so[.\d]*)$/m.exec(readFileSync('/proc/self/maps', 'utf8'));
  return found?.[1] ?? '/lib64/ld-linux-x86-64.so.2';
}

/** A copy of a file in `folder`, whole or not there at all. */
async function copied(path: string, folder: string): Promise<string> {
  const from = reachableFile(path);
  const { size, mtimeMs } = await stat(from);
  const copy = join(folder, `${basename(path)}-${size}-${Math.floor(mtimeMs)}`);
  if ((await stat(copy).catch(() => null))?.size === size) return copy;
  await mkdir(folder, { recursive: true, mode: 0o700 });
  const temporary = `${copy}.new`;
  try {
    await copyFile(from, temporary, constants.COPYFILE_FICLONE);
    await rename(temporary, copy);
  } finally {
    await rm(temporary, { force: true });
  }
  return copy;
}
