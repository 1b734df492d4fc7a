import { spawn } from 'node:child_process';
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Log } from '../../ledger/log.ts';
import { Frontier, leafHash } from '../../ledger/merkle.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import { verifyLog } from '../../ledger/verify.ts';
import { KEY, newLog } from './kit.ts';

const RUNS = 20;
const WRITER = new URL('./crash-writer.ts', import.meta.url).pathname;

interface Acknowledged {
  size: number;
  root: string;
}

/** Lets a real process append, and kills it in the middle of the given acknowledgement. */
async function life(folder: string, killAfter: number): Promise<Acknowledged[]> {
  const child = spawn(process.execPath, [WRITER, folder], { stdio: ['ignore', 'pipe', 'inherit'] });
  const acknowledged: Acknowledged[] = [];
  for await (const line of createInterface({ input: child.stdout })) {
    const [word, size, root] = line.split(' ');
    if (word !== 'acked') continue;
    acknowledged.push({ size: Number(size), root: root! });
    if (acknowledged.length === killAfter) child.kill('SIGKILL');
  }
  if (child.exitCode === null && child.signalCode === null)
    await new Promise((resolve) => child.once('exit', resolve));
  assert.is(child.signalCode, 'SIGKILL');
  return acknowledged;
}

test('a process killed while it appends loses nothing it acknowledged, and leaves an exact prefix (promises 1 and 2)', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-crash-'));
  try {
    const storage = new FileStorage(folder);
    await (await newLog(storage)).close();
    const acknowledged: Acknowledged[] = [];
    let cuts = 0;
    for (let run = 0; run < RUNS; run += 1) {
      acknowledged.push(...(await life(folder, 1 + ((run * 7) % 23))));
      const frontier = new Frontier();
      const roots = new Map<number, string>();
      const wanted = new Set(acknowledged.map(({ size }) => size));
      const log = await Log.open({ storage, key: run % 2 === 0 ? null : KEY });
      for await (const entry of log.entries()) {
        assert.is(entry.index, frontier.size);
        frontier.append(leafHash(JSON.stringify(entry)));
        if (wanted.has(frontier.size)) roots.set(frontier.size, frontier.root().toString('hex'));
      }
      if (log.cut !== null) cuts += 1;
      const last = acknowledged.at(-1)!;
      assert.ok(log.size >= last.size, `run ${run}: ${log.size} entries, ${last.size} acknowledged`);
      // Not only are there as many: each acknowledged root, of every life so far, is the root of what is there now.
      for (const { size, root } of acknowledged) assert.is(roots.get(size), root, `root at ${size}`);
      await log.close();
    }
    const report = await verifyLog(storage);
    assert.ok(report.segments > 3);
    console.log(
      `${RUNS} kills, ${acknowledged.length} acknowledgements, ${report.size} entries, ${cuts} torn tails cut here`,
    );
  } finally {
    await rm(folder, { recursive: true });
  }
});

test.run();
