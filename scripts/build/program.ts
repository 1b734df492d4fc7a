import { createHash } from 'node:crypto';
import {
  cpSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  renameSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { dirname, join, relative, resolve } from 'node:path';
import { build, type OutputFile, stop } from 'esbuild';

const ROOT = resolve(import.meta.dirname, '../..');
/** What is started as a process: the bins, and what they start by `ownModule`. */
const PROGRAMS = [
  'hub/cli.js',
  'hub/mesh-node.js',
  'ledger/snapshots/snapshot-process.ts',
  'node/workers/attempt-process.ts',
];
/** What the program reads by `ownFile`. */
const READ = ['node/worker/prompts', 'node/environment/forwarder.js'];
/** Loaded from where npm put them: one is native, the other starts files of its own. */
const EXTERNAL = ['classic-level', 'pino'];
/** Where `npm test` keeps what it runs, each build under a name of its own: another run may still use an older one. */
const BUILT = join(ROOT, '.built');
const keptMs = 24 * 3_600_000;

/** What CommonJS modules among the bundled ones call. */
const REQUIRE =
  "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);";

/** The program from its sources, with the modules it uses, in few files: most of a start is finding and linking modules. */
async function bundled(): Promise<OutputFile[]> {
  const { outputFiles } = await build({
    absWorkingDir: ROOT,
    entryPoints: PROGRAMS,
    outbase: '.',
    outdir: '.',
    // One folder deep, as `node/own-program.ts` is: from there it finds the others.
    chunkNames: 'chunks/[name]-[hash]',
    bundle: true,
    splitting: true,
    write: false,
    format: 'esm',
    platform: 'node',
    target: 'node22.18',
    external: EXTERNAL,
    banner: { js: REQUIRE },
    logLevel: 'warning',
  });
  // Its process would live on with this one.
  await stop();
  return outputFiles;
}

function written(files: OutputFile[], folder: string): void {
  for (const { path, contents } of files) {
    const file = join(folder, relative(ROOT, path));
    mkdirSync(dirname(file), { recursive: true });
    writeFileSync(file, contents);
  }
  for (const path of READ) cpSync(join(ROOT, path), join(folder, path), { recursive: true });
}

/** Paths of the files of `READ`. */
const filesRead = (): string[] =>
  READ.flatMap((path) => {
    if (statSync(join(ROOT, path)).isFile()) return [path];
    return readdirSync(join(ROOT, path)).map((name) => join(path, name));
  });

/** Builds what is published into `folder`, in the place of whatever is there. */
export async function buildProgram(folder: string): Promise<void> {
  const files = await bundled();
  rmSync(folder, { recursive: true, force: true });
  written(files, folder);
}

/** Builds what the tests run, unless it is there; answers its name, by which `scripts/mesh-hub` and `mesh-node` find it. */
export async function buildForTests(): Promise<string> {
  const files = await bundled();
  const hash = createHash('sha256');
  for (const { path, contents } of files) hash.update(path).update(contents);
  for (const path of filesRead()) hash.update(path).update(readFileSync(join(ROOT, path)));
  const name = hash.digest('hex').slice(0, 16);
  const folder = join(BUILT, name);
  if (!existsSync(folder)) {
    const making = `${folder}.${process.pid}`;
    written(files, making);
    try {
      renameSync(making, folder);
    } catch (error) {
      // Another run has made the same.
      rmSync(making, { recursive: true });
      if (!existsSync(folder)) throw error;
    }
  }
  for (const other of readdirSync(BUILT)) {
    const old = join(BUILT, other);
    if (other !== name && Date.now() - statSync(old).mtimeMs > keptMs) rmSync(old, { recursive: true });
  }
  return name;
}
