// limit: 150 s
import { type ChildProcessByStdio, spawn } from 'node:child_process';
import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import { build, stop } from 'esbuild';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log/log.ts';
import { verifyLog } from '../../ledger/log/verify.ts';
import { Frontier, leafHash } from '../../ledger/proofs/merkle.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { Random } from '../sim/random.ts';
import { KEY } from './kit.ts';

const KILLS = 210;
/** Of one log, so that what is read after each kill stays short. */
const KILLS_PER_LOG = 5;
/** A life gets to be this old in acknowledgements at most. */
const ACKS_MAX = 4;
/** The rest of the moment of a kill: a few writes and syncs long. */
const DELAY_MS_MAX = 6;
/** What CommonJS modules among the bundled ones call. */
const REQUIRE =
  "import { createRequire as requireFrom } from 'node:module'; const require = requireFrom(import.meta.url);";

interface Acknowledged {
  size: number;
  root: string;
}
type Writer = ChildProcessByStdio<Writable, Readable, null>;

const counts = { kills: 0, acknowledged: 0, entries: 0, cuts: 0, inMaking: 0, inOpening: 0 };

/** Most of a writer's time is its start: it is one file. */
async function bundleWriter(home: string): Promise<void> {
  await build({
    entryPoints: [new URL('./crash-writer.ts', import.meta.url).pathname],
    outfile: join(home, 'writer.js'),
    bundle: true,
    format: 'esm',
    platform: 'node',
    banner: { js: REQUIRE },
    logLevel: 'warning',
  });
  await stop();
  await writeFile(join(home, 'package.json'), '{"type":"module"}');
}

/** A process that has loaded everything and waits to be told where to write; with room for what it makes without a collection. */
function writer(home: string): Writer {
  return spawn(process.execPath, ['--min-semi-space-size=16', join(home, 'writer.js')], {
    stdio: ['pipe', 'pipe', 'inherit'],
    env: { ...process.env, NODE_COMPILE_CACHE: join(home, 'cache') },
  });
}

/** Lets it append, and kills it a moment after so many acknowledgements. Returns all it acknowledged. */
async function life(child: Writer, folder: string, acks: number, delayMs: number): Promise<Acknowledged[]> {
  const acknowledged: Acknowledged[] = [];
  let opened = false;
  const killSoon = (): unknown => setTimeout(() => child.kill('SIGKILL'), delayMs);
  for await (const line of createInterface({ input: child.stdout })) {
    const [word, size, root] = line.split(' ');
    if (word === 'ready') {
      child.stdin.write(`${folder}\n`);
      if (acks === 0) killSoon();
    } else if (word === 'open') {
      opened = true;
      if (root !== '0') counts.cuts += 1;
    } else if (word === 'acked') {
      acknowledged.push({ size: Number(size), root: root! });
      if (acknowledged.length === acks) killSoon();
    }
  }
  if (child.exitCode === null && child.signalCode === null)
    await new Promise((resolve) => child.once('exit', resolve));
  assert.is(child.signalCode, 'SIGKILL');
  if (!opened) counts.inOpening += 1;
  counts.kills += 1;
  return acknowledged;
}

/** The log as the next process finds it, closed after, holds every entry acknowledged in any life so far, under the root that was named. */
async function assertHolds(log: Log, acknowledged: readonly Acknowledged[], what: string): Promise<void> {
  const roots = new Map(acknowledged.map(({ size, root }) => [size, root]));
  const frontier = new Frontier();
  for await (const entry of log.entries()) {
    assert.is(entry.index, frontier.size, what);
    frontier.append(leafHash(JSON.stringify(entry)));
    const root = roots.get(frontier.size);
    if (root === undefined) continue;
    assert.is(frontier.root().toString('hex'), root, `${what}: root at ${frontier.size}`);
    roots.delete(frontier.size);
  }
  assert.equal([...roots.keys()], [], `${what}: acknowledged, and not among ${log.size} entries`);
  await log.close();
}

/**
 * One log after the other, each made, written and recovered by processes that are killed. One at a time: a writer that
 * is killed late, because this process is busy with another log, only writes more.
 */
async function lives(home: string, seed: number, kills: number): Promise<void> {
  const random = new Random(seed);
  let next = writer(home);
  for (let made = 0; made * KILLS_PER_LOG < kills; made += 1) {
    const folder = join(home, `log-${seed}-${made}`);
    const storage = new FileStorage(folder);
    const acknowledged: Acknowledged[] = [];
    for (let run = 0; run < Math.min(KILLS_PER_LOG, kills - made * KILLS_PER_LOG); run += 1) {
      const what = `log ${seed}-${made}, life ${run}`;
      const child = next;
      next = writer(home);
      acknowledged.push(
        ...(await life(child, folder, random.int(0, ACKS_MAX), random.between(0, DELAY_MS_MAX))),
      );
      const found = await Log.open({ storage, key: null }).catch((error) => error.code as string);
      if (found instanceof Log) {
        await assertHolds(found, acknowledged, what);
      } else {
        // Killed while it was made: nobody was told of it, and a person would make it anew.
        assert.equal(acknowledged, [], `${what}: ${found}`);
        assert.ok(['SF_NOT_FOUND', 'SF_LOG_DAMAGED'].includes(found), found);
        await rm(folder, { recursive: true, force: true });
        counts.inMaking += 1;
      }
    }
    counts.acknowledged += acknowledged.length;
    if ((await storage.list()).length === 0) continue;
    await (await Log.open({ storage, key: KEY })).close();
    counts.entries += (await verifyLog(storage)).size;
  }
  const gone = new Promise((resolve) => next.once('exit', resolve));
  next.kill('SIGKILL');
  await gone;
}

test(`a process killed at any moment, ${KILLS} times, loses nothing it acknowledged, and leaves an exact prefix (promises 1 and 2)`, async () => {
  const home = await mkdtemp(join(tmpdir(), 'superfleet-crash-'));
  try {
    await bundleWriter(home);
    await lives(home, 1, KILLS);
    console.log(
      Object.entries(counts)
        .map(([what, times]) => `${times} ${what}`)
        .join(', '),
    );
    assert.is(counts.kills, KILLS);
    assert.ok(counts.acknowledged > KILLS, 'they did get to write');
  } finally {
    await rm(home, { recursive: true });
  }
});

test.run();
