/**
 * Proofs over a million entries from tiles in files: the median time from an index to the text of path and checkpoint,
 * the time that 99 of 100 stay below, and the bytes of the longest such text. Tiles are read from files each time; the system's cache is
 * warm. There is nothing to compare with, so the peer is null.
 *
 * `BENCH_PROVE_ENTRIES` and `BENCH_PROVE_RUNS` make it small for a test of the frame; no figure that is told comes of that.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { makeCheckpoint } from '../../ledger/lines/checkpoint.ts';
import { Frontier, leafHash } from '../../ledger/proofs/merkle.ts';
import type { TreeHead } from '../../ledger/proofs/merkle-proof.ts';
import { FileTileStore } from '../../ledger/proofs/tile-store-file.ts';
import { TileTree } from '../../ledger/proofs/tile-tree.ts';
import type { Tile, TileId } from '../../ledger/proofs/tiles.ts';
import { signingKeyFromSeed } from '../../protocol/keys.ts';
import { type Benchmark, type Figure, median } from './figures.ts';

const ENTRIES = Number(process.env.BENCH_PROVE_ENTRIES ?? 1_000_000);
const RUNS = Number(process.env.BENCH_PROVE_RUNS ?? 5);
const PROOFS = 200;
const BATCH = 1000;
const MB = 1e6;
const line = (n: number): string =>
  `{"index":${n},"epoch":1,"time":1700000000000,"type":"bench.entry","body":{}}`;

export const benchmark: Benchmark = async (say) => {
  const folder = await mkdtemp(join(tmpdir(), 'superfleet-bench-prove-'));
  try {
    const store = new CountingStore(folder);
    const { head, genesis } = await build(store, say);
    let lines = 0;
    const began = performance.now();
    const leaves = async function* (begin: number, end: number): AsyncIterable<Uint8Array> {
      lines += end - begin;
      for (let n = begin; n < end; n += 1) yield leafHash(line(n));
    };
    const tree = await TileTree.open({ store, leaves }, head);
    const openMs = performance.now() - began;
    say(
      `prove: opened on ${ENTRIES} entries in ${openMs.toFixed(0)} ms, ${lines} lines and ${store.bytes} bytes of tiles read`,
    );
    const key = signingKeyFromSeed(Buffer.alloc(32, 7));
    const root = Buffer.from(head.root).toString('hex');
    const checkpoint = makeCheckpoint({ origin: genesis, size: ENTRIES, root }, key).text;
    const medians: number[] = [];
    const nearlyAll: number[] = [];
    let longest = 0;
    for (let run = -1; run < RUNS; run += 1) {
      store.bytes = 0;
      const times: number[] = [];
      for (let n = 0; n < PROOFS; n += 1) {
        const index = Math.floor(Math.random() * ENTRIES);
        const start = performance.now();
        const { path } = await tree.inclusion(index, head);
        const text = `${index}\n${path.map((hash) => hash.toString('base64')).join('\n')}\n\n${checkpoint}`;
        times.push(performance.now() - start);
        longest = Math.max(longest, Buffer.byteLength(text));
      }
      times.sort((a, b) => a - b);
      say(
        `prove: median ${median(times).toFixed(2)} ms, ${Math.round(store.bytes / PROOFS)} bytes of tiles read for a proof`,
      );
      if (run < 0) continue;
      medians.push(median(times));
      nearlyAll.push(times[Math.floor(PROOFS * 0.99)]!);
    }
    const figure = (name: string, ours: number, unit: Figure['unit']): Figure => ({
      figure: name,
      ours,
      peer: null,
      ratio: null,
      unit,
      runs: RUNS,
    });
    return [
      figure('prove.time', median(medians), 'ms'),
      figure('prove.time.p99', median(nearlyAll), 'ms'),
      figure('prove.size', longest / MB, 'MB'),
    ];
  } finally {
    await rm(folder, { recursive: true });
  }
};

async function build(
  store: CountingStore,
  say: (line: string) => void,
): Promise<{ head: TreeHead; genesis: string }> {
  const none = async function* (): AsyncIterable<Uint8Array> {};
  const frontier = new Frontier();
  const began = performance.now();
  const tree = await TileTree.open({ store, leaves: none }, { size: 0, root: frontier.root() });
  for (let first = 0; first < ENTRIES; first += BATCH) {
    const batch = Array.from({ length: Math.min(BATCH, ENTRIES - first) }, (_, n) =>
      leafHash(line(first + n)),
    );
    for (const leaf of batch) frontier.append(leaf);
    await tree.append(batch);
  }
  const seconds = (performance.now() - began) / 1000;
  say(`prove: ${store.tiles} tiles of ${ENTRIES} entries written in ${seconds.toFixed(1)} s, each synced`);
  return { head: { size: ENTRIES, root: frontier.root() }, genesis: leafHash(line(0)).toString('hex') };
}

class CountingStore extends FileTileStore {
  bytes = 0;
  tiles = 0;

  override async read(id: TileId): Promise<Buffer | null> {
    const bytes = await super.read(id);
    this.bytes += bytes?.length ?? 0;
    return bytes;
  }

  override async write(tile: Tile): Promise<void> {
    this.tiles += 1;
    await super.write(tile);
  }
}
