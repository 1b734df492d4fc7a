import { execFile } from 'node:child_process';
import {
  chmod,
  copyFile,
  cp,
  mkdir,
  mkdtemp,
  readdir,
  readFile,
  rename,
  rm,
  writeFile,
} from 'node:fs/promises';
import { join, resolve } from 'node:path';
import { promisify } from 'node:util';
import { extract } from 'tar';
import { nodePackage, type Platform, prebuilt } from './platforms.ts';

const ROOT = resolve(import.meta.dirname, '../..');
const HERE = import.meta.dirname;
const execute = promisify(execFile);

/** The programs as they are on every platform. */
export interface App {
  folder: string;
  version: string;
  /** Version of Node that the clone is pinned to. */
  node: string;
}

export interface Staged {
  /** Named as what is unpacked. */
  folder: string;
  /** Version of the Node in it. */
  node: string;
}

/** npm in `cwd`; its words are told where it fails. */
async function npm(cwd: string, ...args: string[]): Promise<string> {
  const { stdout } = await execute('npm', [...args, '--no-audit', '--no-fund', '--loglevel=error'], { cwd });
  return stdout.trim();
}

/** Packs a package and unpacks it into a new folder below `work`. */
async function packed(work: string, cwd: string, ...what: string[]): Promise<string> {
  const folder = await mkdtemp(join(work, 'tarball-'));
  const tarball = (await npm(cwd, 'pack', ...what, '--pack-destination', folder)).split('\n').at(-1)!;
  const found = await unpacked(work, join(folder, tarball));
  await rm(folder, { recursive: true });
  return found;
}

/** Unpacks what `npm pack` made into a new folder below `work`. */
async function unpacked(work: string, tarball: string): Promise<string> {
  const folder = await mkdtemp(join(work, 'package-'));
  await extract({ file: tarball, cwd: folder });
  return join(folder, 'package');
}

/**
 * What is published, with the modules it needs to run and no others, at the versions of the lock file: packed now, or
 * from the `tarball` that `npm pack` made of this clone.
 */
export async function stageApp(work: string, tarball: string | null): Promise<App> {
  const folder = tarball === null ? await packed(work, ROOT) : await unpacked(work, tarball);
  await copyFile(join(ROOT, 'package-lock.json'), join(folder, 'package-lock.json'));
  // Whatever a module's install script would build comes built in it.
  await npm(folder, 'install', '--omit=dev', '--ignore-scripts', '--no-save', '--prefer-offline');
  await rm(join(folder, 'package-lock.json'));
  await rm(join(folder, 'node_modules/.package-lock.json'), { force: true });
  const versionIn = async (file: string): Promise<string> =>
    (JSON.parse(await readFile(file, 'utf8')) as { version: string }).version;
  return {
    folder,
    version: await versionIn(join(folder, 'package.json')),
    node: await versionIn(join(ROOT, 'node_modules/node/package.json')),
  };
}

/** One platform's folder: `app/`, `node/`, launchers in `bin/`, and what installs it. */
export async function stagePlatform(work: string, app: App, platform: Platform): Promise<Staged> {
  const name = `superfleet-${app.version}-${platform}`;
  const folder = join(work, name);
  await mkdir(join(folder, 'bin'), { recursive: true });
  await cp(app.folder, join(folder, 'app'), { recursive: true, verbatimSymlinks: true, filter: runs });
  await keepOnly(join(folder, 'app/node_modules/classic-level/prebuilds'), prebuilt(platform));
  const windows = platform.startsWith('win');
  const node = await stageNode(work, join(folder, 'node'), platform, app.node);
  const launcher = await readFile(join(HERE, windows ? 'launcher.cmd' : 'launcher.sh'), 'utf8');
  for (const bin of ['mesh-hub', 'mesh-node']) {
    const path = join(folder, 'bin', windows ? `${bin}.cmd` : bin);
    await writeFile(path, launcher.replaceAll('@BIN@', bin));
    await chmod(path, 0o755);
  }
  if (!windows) {
    await copyFile(join(HERE, 'install.sh'), join(folder, 'install.sh'));
    await chmod(join(folder, 'install.sh'), 0o755);
  }
  for (const file of ['README.md', 'LICENSE']) await copyFile(join(ROOT, file), join(folder, file));
  return { folder, node };
}

/** False for the types, sources and source maps of modules: nearly half of all files, and Node never reads one of them. */
function runs(path: string): boolean {
  return !(path.includes('/node_modules/') && /\.(map|[cm]?ts)$/.test(path));
}

/** The platform's Node and its licence, of the pinned version or else the newest of the same major there is. */
async function stageNode(work: string, to: string, platform: Platform, version: string): Promise<string> {
  const major = version.split('.')[0]!;
  const name = nodePackage(platform);
  const found =
    (await packed(work, work, `${name}@${version}`).catch(() => null)) ??
    (await packed(work, work, `${name}@${major}`));
  const { version: got } = JSON.parse(await readFile(join(found, 'package.json'), 'utf8')) as {
    version: string;
  };
  await mkdir(join(to, 'bin'), { recursive: true });
  for (const file of await readdir(join(found, 'bin'))) {
    if (file === 'node' || file === 'node.exe') await rename(join(found, 'bin', file), join(to, 'bin', file));
  }
  // Windows' package comes without the licence, which is one text for all.
  const licensed = (await readdir(found)).includes('LICENSE')
    ? found
    : await packed(work, work, `${nodePackage('linux-x64')}@${version}`);
  await copyFile(join(licensed, 'LICENSE'), join(to, 'LICENSE'));
  if (licensed !== found) await rm(licensed, { recursive: true });
  await rm(found, { recursive: true });
  return got.replace(/^v/, '');
}

async function keepOnly(folder: string, kept: string): Promise<void> {
  const there = await readdir(folder);
  if (!there.includes(kept)) throw new Error(`LevelDB comes built for ${there.join(', ')}, not for ${kept}`);
  for (const name of there) if (name !== kept) await rm(join(folder, name), { recursive: true });
}
