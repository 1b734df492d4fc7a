/**
 * `npm test [-- PART…]`: every `*.test.ts` whose path contains one of the parts (default: all but the long ones
 * under `test/long`), each file in a process group of its own. A watchdog ends a hung file and names it; a file that
 * leaves a process behind has failed. The last line is `N passed, N failed`.
 *
 * A file may say in its first lines what bounds it, `// limit: 240 s`; that it loads or measures the whole machine,
 * `// alone: why`; or that it waits more than it works and holds times against promises, `// timed: why`. Two at a time run,
 * but for those alone; the timed ones beside each other only, so that nothing takes the processor from under them.
 */
import { spawn } from 'node:child_process';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { compiledFolder } from '../node/cli/compile-cache.js';
import { buildForTests } from './build/program.ts';

const LIMIT_S = 90;
const parts = process.argv.slice(2);
const files = readdirSync('test', { recursive: true, encoding: 'utf8' })
  .filter((name) => name.endsWith('.test.ts'))
  .map((name) => join('test', name))
  .filter((name) =>
    parts.length > 0 ? parts.some((part) => name.includes(part)) : !name.startsWith('test/long/'),
  )
  .sort();

/** What a file and the programs it starts compile is compiled once, whatever they have for a home. */
const compiled = compiledFolder();
/** The programs that tests start are those that are published, in half the time; a file run by itself runs the sources. */
const build = process.env.SUPERFLEET_BUILD ?? (await buildForTests());
const totals = { passed: 0, failed: 0, skipped: 0 };
const started = Date.now();

for (const [kind, width] of [
  ['crowd', 2],
  ['timed', 2],
  ['alone', 1],
] as const) {
  const those = files.filter((file) => headerOf(file).kind === kind);
  // The ones with the highest bounds first, so that none of them is left over for the end.
  await drain(
    those.sort((a, b) => headerOf(b).lasts - headerOf(a).lasts),
    width,
  );
}

const seconds = ((Date.now() - started) / 1000).toFixed(1);
console.log(`\n${files.length} files in ${seconds} s`);
if (files.length === 0) console.log(`no test file matches ${parts.join(', ')}`);
const skipped = totals.skipped > 0 ? `, ${totals.skipped} skipped` : '';
console.log(`${totals.passed} passed, ${totals.failed} failed${skipped}`);
process.exit(totals.failed === 0 && files.length > 0 ? 0 : 1);

interface Header {
  limitS: number;
  /** Only what takes long says what bounds it. */
  lasts: number;
  kind: 'crowd' | 'timed' | 'alone';
}

async function drain(queue: string[], width: number): Promise<void> {
  const waiting = [...queue];
  const worker = async (): Promise<void> => {
    for (let file = waiting.shift(); file !== undefined; file = waiting.shift()) await runFile(file);
  };
  await Promise.all(Array.from({ length: width }, worker));
}

/** What a file says of itself in its first lines. */
function headerOf(file: string): Header {
  const head = readFileSync(file, 'utf8').slice(0, 600);
  const limit = /^\/\/ limit: (\d+) s$/m.exec(head)?.[1];
  const kind = /^\/\/ (alone|timed): /m.exec(head)?.[1] as Header['kind'] | undefined;
  return { limitS: Number(limit ?? LIMIT_S), lasts: Number(limit ?? 0), kind: kind ?? 'crowd' };
}

async function runFile(file: string): Promise<void> {
  const limit = headerOf(file).limitS;
  const began = Date.now();
  const child = spawn(process.execPath, [file], {
    detached: true,
    stdio: ['ignore', 'pipe', 'pipe'],
    env: {
      ...process.env,
      ...(compiled === null ? {} : { NODE_COMPILE_CACHE: compiled }),
      SUPERFLEET_BUILD: build,
      NO_COLOR: '1',
      FORCE_COLOR: '0',
    },
  });
  let text = '';
  for (const stream of [child.stdout, child.stderr]) stream.on('data', (bytes: Buffer) => (text += bytes));
  let hung = false;
  const watchdog = setTimeout(() => {
    hung = true;
    killGroup(child.pid);
  }, limit * 1000);
  const code = await new Promise<number | null>((resolve) => child.once('exit', resolve));
  clearTimeout(watchdog);
  const left = hung ? [] : await leftOf(child.pid);
  const leftBehind = left.length > 0;
  if (leftBehind) killGroup(child.pid);

  const number = (label: string): number => Number(new RegExp(`${label}:\\s+(\\d+)`).exec(text)?.[1] ?? 0);
  const total = number('Total');
  const passed = number('Passed');
  totals.passed += passed;
  totals.skipped += number('Skipped');
  const complaints = [
    hung && `hung: ended after ${limit} s`,
    leftBehind && `left processes behind: ${left.join(', ')}`,
    total === 0 && number('Skipped') === 0 && 'ran no test',
    total > passed && `${total - passed} failed`,
    !hung && code !== 0 && total === passed && `exit ${code}`,
  ].filter((complaint) => complaint !== false);
  totals.failed += complaints.length === 0 ? 0 : Math.max(1, total - passed);
  const took = ((Date.now() - began) / 1000).toFixed(1);
  console.log(`${complaints.length === 0 ? 'ok  ' : 'FAIL'} ${file} (${passed}/${total}, ${took} s)`);
  if (/^skipped: /m.test(text)) console.log(text.match(/^skipped: .*$/gm)?.join('\n'));
  if (complaints.length > 0) console.log(`${complaints.join('; ')}\n${text.slice(-12_000)}`);
}

function killGroup(pid: number | undefined): void {
  if (pid === undefined) return;
  try {
    process.kill(-pid, 'SIGKILL');
  } catch {
    // The group is gone, which is what was wanted.
  }
}

/** Processes of a group that still run; those that ended and are not yet collected by their parent do not. */
function groupMembers(pgid: number): number[] {
  return readdirSync('/proc').flatMap((name) => {
    if (!/^\d+$/.test(name)) return [];
    try {
      // `pid (name) state parent group …`; the name may hold anything.
      const stat = readFileSync(`/proc/${name}/stat`, 'latin1');
      const [state, , group] = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return Number(group) === pgid && state !== 'Z' && state !== 'X' ? [Number(name)] : [];
    } catch {
      return [];
    }
  });
}

/** What is left of a group once what was ended has had a moment to be gone. */
async function leftOf(pid: number | undefined): Promise<number[]> {
  if (pid === undefined) return [];
  for (let look = 0; look < 40; look++) {
    if (groupMembers(pid).length === 0) return [];
    await new Promise((resolve) => setTimeout(resolve, 50));
  }
  return groupMembers(pid);
}
