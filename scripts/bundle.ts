/**
 * `npm run bundle [-- --platform P]… [--output DIR] [--package FILE] [--gzip LEVEL]`: one archive per platform with its own
 * Node and the modules the programs need, for machines that have no network to install from. Prints the archives' names.
 * `--package` takes what `npm pack` made here before instead of packing anew.
 */
import { mkdir, mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import { parseArgs } from 'node:util';
import { archive } from './bundle/archive.ts';
import { isPlatform, PLATFORMS, type Platform, thisPlatform } from './bundle/platforms.ts';
import { stageApp, stagePlatform } from './bundle/stage.ts';

function usage(expected: string, got: string): never {
  console.error(`bundle: expected ${expected}, got ${got}`);
  process.exit(2);
}

interface Wishes {
  platforms: Platform[];
  output: string;
  /** Made by `npm pack`. */
  tarball: string | null;
  /** 1 is done soonest, 9 is smallest; null: as gzip does by itself. */
  level: number | null;
}

function wishes(): Wishes {
  try {
    const { values } = parseArgs({
      options: {
        platform: { type: 'string', multiple: true },
        output: { type: 'string' },
        package: { type: 'string' },
        gzip: { type: 'string' },
      },
    });
    if (values.gzip !== undefined && !/^[1-9]$/.test(values.gzip)) usage('--gzip 1 to 9', values.gzip);
    const wanted = values.platform ?? [thisPlatform()];
    const platforms = wanted.flatMap((name) => {
      if (name === 'all') return [...PLATFORMS];
      return isPlatform(name) ? [name] : usage(`--platform ${PLATFORMS.join(' | ')} | all`, name);
    });
    return {
      platforms: [...new Set(platforms)],
      output: resolve(values.output ?? 'bundles'),
      tarball: values.package === undefined ? null : resolve(values.package),
      level: values.gzip === undefined ? null : Number(values.gzip),
    };
  } catch (error) {
    return usage('--platform P (repeatable) and --output DIR', (error as Error).message);
  }
}

const { platforms, output, tarball, level } = wishes();
const work = await mkdtemp(join(tmpdir(), 'superfleet-bundle-'));
try {
  const app = await stageApp(work, tarball);
  await mkdir(output, { recursive: true });
  for (const platform of platforms) {
    const staged = await stagePlatform(work, app, platform);
    if (staged.node !== app.node) {
      console.error(`bundle: ${platform} has Node ${staged.node}: there is no package of ${app.node} for it`);
    }
    console.log(await archive(staged.folder, output, level));
    await rm(staged.folder, { recursive: true });
  }
} finally {
  await rm(work, { recursive: true, force: true });
}
