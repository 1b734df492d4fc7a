/**
 * `npm run bundle [-- --platform P]… [--output DIR]`: one archive per platform with its own Node and the modules the
 * programs need, for machines that have no network to install from. Prints the archives' names.
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

function wishes(): { platforms: Platform[]; output: string } {
  try {
    const { values } = parseArgs({
      options: { platform: { type: 'string', multiple: true }, output: { type: 'string' } },
    });
    const wanted = values.platform ?? [thisPlatform()];
    const platforms = wanted.flatMap((name) => {
      if (name === 'all') return [...PLATFORMS];
      return isPlatform(name) ? [name] : usage(`--platform ${PLATFORMS.join(' | ')} | all`, name);
    });
    return { platforms: [...new Set(platforms)], output: resolve(values.output ?? 'bundles') };
  } catch (error) {
    return usage('--platform P (repeatable) and --output DIR', (error as Error).message);
  }
}

const { platforms, output } = wishes();
const work = await mkdtemp(join(tmpdir(), 'superfleet-bundle-'));
try {
  const app = await stageApp(work);
  await mkdir(output, { recursive: true });
  for (const platform of platforms) {
    const staged = await stagePlatform(work, app, platform);
    if (staged.node !== app.node) {
      console.error(`bundle: ${platform} has Node ${staged.node}: there is no package of ${app.node} for it`);
    }
    console.log(await archive(staged.folder, output));
    await rm(staged.folder, { recursive: true });
  }
} finally {
  await rm(work, { recursive: true, force: true });
}
