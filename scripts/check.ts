/** `npm run check`: format, lint, types, and the one direction of imports. Exits 1 on the first kind that fails. */
import { spawnSync } from 'node:child_process';
import { importFaults } from './import-rule.ts';

const bin = (name: string): string => `node_modules/.bin/${name}`;

function run(label: string, command: string, args: string[]): boolean {
  const done = spawnSync(command, args, { stdio: 'inherit' });
  if (done.status !== 0) console.error(`check: ${label} failed`);
  return done.status === 0;
}

const ok = [
  run('format and lint', bin('biome'), ['check', '--error-on-warnings', ...process.argv.slice(2)]),
  run('types', bin('tsc'), ['-p', '.']),
].every(Boolean);
const faults = importFaults(process.cwd());
for (const fault of faults) console.error(`check: ${fault}`);
process.exit(ok && faults.length === 0 ? 0 : 1);
