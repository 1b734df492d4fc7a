import { createHash } from 'node:crypto';
import type { FileHandle } from 'node:fs/promises';
import { InsideFolder } from '../attempt/open-inside.ts';
import { detect, type Recipe, readByDetect, recipeOf } from './detect.ts';
import { environmentDigest } from './digest.ts';
import { type Manifest, readManifest } from './manifest.ts';

/** What is to be prepared for a checkout. */
export interface EnvironmentPlan {
  /** Null: the repository has none. */
  manifest: Manifest | null;
  recipe: Recipe;
  /** Name of the environment. */
  digest: string;
}

/** Names in the root of a repository that are looked at, and bytes of one file that tells of dependencies. */
const namesMax = 10_000;
const textBytesMax = 16 * 1024 * 1024;

/**
 * Looks at a checkout in which no process writes. `versions` are those of this machine's tools; the recipe's count. Throws
 * `SF_USAGE` for a manifest that is not of the form.
 */
export async function planEnvironment(
  checkout: string,
  versions: Readonly<Record<string, string>>,
): Promise<EnvironmentPlan> {
  const manifest = await readManifest(checkout);
  const root = await InsideFolder.root(checkout);
  try {
    const names: string[] = [];
    for await (const { name } of root.entries()) if (names.push(name.toString()) >= namesMax) break;
    const contents: Record<string, string> = {};
    for (const name of readByDetect) {
      const bytes = names.includes(name) ? await use(root, name, head) : null;
      if (bytes !== null) contents[name] = bytes.toString('utf8');
    }
    const recipe = recipeOf(manifest, detect(names, contents));
    const files: Record<string, string> = {};
    for (const path of recipe.reads) {
      const digest = await use(root, path, sha256);
      if (digest !== null) files[path] = digest;
    }
    const tools = Object.fromEntries(
      recipe.tools
        .filter((name) => Object.hasOwn(versions, name))
        .map((name) => [name, versions[name] ?? '']),
    );
    const { platform, arch } = process;
    return { manifest, recipe, digest: environmentDigest({ recipe, files, tools, platform, arch }) };
  } finally {
    await root.close();
  }
}

/** What `read` makes of the file at a path below a folder; null where there is none, or it is behind a link. */
async function use<T>(
  root: InsideFolder,
  path: string,
  read: (file: FileHandle) => Promise<T>,
): Promise<T | null> {
  const names = path.split('/');
  const last = names.pop() ?? '';
  const opened: InsideFolder[] = [];
  try {
    let at = root;
    for (const name of names) {
      const next = await at.folder(name);
      if (next === null) return null;
      opened.push(next);
      at = next;
    }
    const file = await at.file(last);
    if (file === null) return null;
    try {
      return await read(file);
    } finally {
      await file.close();
    }
  } finally {
    for (const folder of opened) await folder.close();
  }
}

async function head(file: FileHandle): Promise<Buffer> {
  const chunks: Buffer[] = [];
  const stream = file.createReadStream({ autoClose: false, end: textBytesMax - 1 });
  for await (const chunk of stream) chunks.push(chunk as Buffer);
  return Buffer.concat(chunks);
}

async function sha256(file: FileHandle): Promise<string> {
  const hash = createHash('sha256');
  for await (const chunk of file.createReadStream({ autoClose: false })) hash.update(chunk as Buffer);
  return hash.digest('hex');
}
