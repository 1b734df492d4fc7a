/** `npm run build`: what is published, from the sources to `dist/`. Source runs as it is; only the package needs this. */
import { spawnSync } from 'node:child_process';
import { rmSync } from 'node:fs';

rmSync('dist', { recursive: true, force: true });
const done = spawnSync('node_modules/.bin/tsc', ['-p', 'tsconfig.build.json'], { stdio: 'inherit' });
process.exit(done.status ?? 1);
