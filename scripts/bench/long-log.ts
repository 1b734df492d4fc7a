import { mkdirSync, mkdtempSync, rmSync } from 'node:fs';
import { open } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCheckpoint } from '../../ledger/lines/checkpoint.ts';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { makeEntry } from '../../ledger/lines/line.ts';
import { batchOf } from '../../ledger/log/batch.ts';
import { Frontier, leafHash } from '../../ledger/proofs/merkle.ts';
import { segmentName } from '../../ledger/storage/storage.ts';
import { publicKeyToBase64, type SigningKey, signingKeyFromSeed } from '../../protocol/keys.ts';
import { segmentBytes } from '../../protocol/limits.ts';
import { LIFE_ENTRIES, MEMBER_PEERS, taskLife } from './task-life.ts';

/** A log as a founder leaves it after a long time, in a folder of its own. */
export interface LongLog {
  /** What `FileStorage` is given. */
  folder: string;
  key: SigningKey;
  mesh: string;
  entries: number;
  /** Of all segments. */
  bytes: number;
  batches: number;
}

/** Tasks whose entries stand between each other's: the slots of a mesh. */
const TASKS_AT_ONCE = 36;
const BATCH_ENTRIES_MAX = 7;
const TIME = 1_700_000_000_000;
const KEY = signingKeyFromSeed(Buffer.alloc(32, 7));

const made = new Map<number, Promise<LongLog>>();

/** The log of that many entries, written once in a process and removed at its end. */
export function longLog(entries: number, say: (line: string) => void): Promise<LongLog> {
  const found = made.get(entries);
  if (found !== undefined) return found;
  const folder = mkdtempSync(join(tmpdir(), 'superfleet-bench-log-'));
  process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
  const began = performance.now();
  const log = writeLongLog(folder, entries).then((written) => {
    const seconds = (performance.now() - began) / 1000;
    const perLine = Math.round(written.bytes / entries);
    say(
      `long log: ${entries} entries in ${written.batches} batches, ${perLine} bytes an entry with its share of the checkpoint, written in ${seconds.toFixed(1)} s`,
    );
    return written;
  });
  made.set(entries, log);
  return log;
}

/**
 * Writes a log of exactly `entries` entries into a folder: whole lives of tasks in batches of 1 to 7, each under a signed
 * checkpoint; made as a founder makes them, but a segment is one write and nothing is synced. The same every time.
 */
export async function writeLongLog(folder: string, entries: number): Promise<LongLog> {
  mkdirSync(folder, { recursive: true });
  const frontier = new Frontier();
  let mesh = '';
  let batch: string[] = [];
  let pieces: Buffer[] = [];
  let held = 0;
  let segment = 0;
  let bytes = 0;
  let batches = 0;
  let size = batchSize(0);
  const endSegment = async (): Promise<void> => {
    const file = await open(join(folder, segmentName(segment)), 'wx', 0o600);
    await file.writev(pieces);
    await file.close();
    pieces = [];
    held = 0;
    segment = frontier.size;
  };
  for (const event of events()) {
    const index = frontier.size;
    const { line } = makeEntry({ index, epoch: 1, time: TIME + index * 7 }, event);
    const leaf = leafHash(line);
    if (index === 0) mesh = leaf.toString('hex');
    frontier.append(leaf);
    batch.push(line);
    // The genesis is alone in its batch.
    if (index > 0 && batch.length < size && frontier.size < entries) continue;
    const said = { origin: mesh, size: frontier.size, root: frontier.root().toString('hex') };
    const piece = batchOf(batch, makeCheckpoint(said, KEY));
    pieces.push(piece);
    held += piece.length;
    bytes += piece.length;
    batches += 1;
    batch = [];
    size = batchSize(batches);
    if (held >= segmentBytes) await endSegment();
    if (frontier.size >= entries) break;
  }
  if (held > 0) await endSegment();
  return { folder, key: KEY, mesh, entries, bytes, batches };
}

const batchSize = (n: number): number => 1 + ((n * 5 + (n >> 3)) % BATCH_ENTRIES_MAX);

/** Genesis, the members, then tasks without end, as many under way at once as there are slots. */
function* events(): Generator<LogEvent> {
  const by = { kind: 'founder' } as const;
  yield {
    type: 'mesh.created',
    body: {
      format: 1,
      name: 'lab',
      founder: KEY.peer,
      logKey: publicKeyToBase64(KEY.publicKey),
      recoveryKey: publicKeyToBase64(signingKeyFromSeed(Buffer.alloc(32, 8)).publicKey),
      parent: null,
      nonce: '0'.repeat(32),
    },
  };
  for (const [n, peer] of MEMBER_PEERS.entries()) {
    yield {
      type: 'member.admitted',
      body: {
        peer,
        name: `machine-${n}`,
        owner: `owner-${n % 3}`,
        roles: ['worker'],
        labels: { arch: 'x64' },
        via: { kind: 'approval', code: '123456' },
        by,
      },
    };
  }
  const slots: { life: LogEvent[]; at: number }[] = [];
  let tasks = 0;
  for (let turn = 0; ; turn += 1) {
    const slot = turn % TASKS_AT_ONCE;
    const under = slots[slot];
    if (under === undefined || under.at === LIFE_ENTRIES) {
      slots[slot] = { life: taskLife(tasks), at: 0 };
      tasks += 1;
    }
    const { life, at } = slots[slot]!;
    yield life[at]!;
    slots[slot]!.at += 1;
  }
}
