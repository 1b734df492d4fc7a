/** `npm run build`: what is published, from the sources to `dist/`. Source runs as it is; only the package needs this. */
import { spawnSync } from 'node:child_process';
import { cpSync, rmSync } from 'node:fs';

rmSync('dist', { recursive: true, force: true });
const done = spawnSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' });
if (done.status !== 0) process.exit(done.status ?? 1);
// Texts that the program reads.
cpSync('node/worker/prompts', 'dist/node/worker/prompts', { recursive: true });
