import { SuperfleetError } from '../../protocol/errors.ts';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import { logKeys } from '../../protocol/handover.ts';
import { publicKeyToBase64 } from '../../protocol/keys.ts';
import { type Checkpoint, verifyCheckpoint } from '../lines/checkpoint.ts';
import { parseLine } from '../lines/line.ts';
import { lineRuns } from '../lines/lines.ts';
import type { LogStorage } from '../storage/storage.ts';
import type { LogDamagedError } from './damage.ts';
import { LogCopy } from './log-copy.ts';
import { type CopySource, forked } from './log-source.ts';
import { scanLog } from './scan.ts';
import { readSound, type Sound } from './sound.ts';
import { type VerifyReport, verifyLog } from './verify.ts';

export interface RepairOptions {
  /** Empty; the repaired log is made there, and the damaged one is left as it is. */
  into: LogStorage;
  /** Raw public log key of the folder; says of which mesh a log is of which nothing is left. Null: there is none. */
  logKey: Uint8Array | null;
  /** The result may be shorter than what the damaged log still proves. */
  acceptLoss: boolean;
  /** @default `segmentBytes` */
  segmentBytes?: number;
}

export interface RepairReport {
  mesh: string;
  size: number;
  root: string;
  /** Entries of the damaged log that held. */
  sound: number;
  /** Entries that came from the source. */
  taken: number;
  /** Entries that the damaged log still proves there were, past the end of the result. */
  lost: number;
  /** What was wrong; null where the log held and was only shorter than the source. */
  damage: LogDamagedError | null;
}

/** A checkpoint that the damaged log still proves, and where. */
interface Proved {
  checkpoint: Checkpoint;
  place: string;
}

/**
 * Makes a whole log of a damaged or shorter one: its sound prefix, and behind it what the source has. Everything of both
 * is verified. Null where there was nothing to repair, and `into` is empty then. Rejects with what the source rejects
 * with, with `SF_EQUIVOCATION` where a signed checkpoint past the damage is none of the source's, and with `SF_BEHIND`
 * where the result would be shorter than such a checkpoint and no loss is accepted.
 */
export async function repairFrom(
  storage: LogStorage,
  source: CopySource,
  options: RepairOptions,
): Promise<RepairReport | null> {
  const sound = await readSound(storage);
  const damage = sound.damage && (await isTorn(storage)) ? null : sound.damage;
  const copy = await build(storage, sound, source, options);
  if (copy === null) {
    throw new SuperfleetError('SF_LOG_DAMAGED', 'nothing of the log holds, and the source has nothing', {
      expected: 'a source with a whole log',
      got: source.name,
    });
  }
  const { meshId: mesh, size } = copy;
  const before = sound.state.checkpoint?.size ?? 0;
  let newest: Checkpoint;
  try {
    newest = await compare(storage, sound, copy, source, options);
  } finally {
    await copy.close();
  }
  if (damage === null && size === before) return null;
  if (newest.size > size && !options.acceptLoss) {
    throw new SuperfleetError('SF_BEHIND', `${source.name} ends before what the damaged log still proves`, {
      expected: `a log of at least ${newest.size} entries, or --accept-loss`,
      got: `${size} entries`,
      hint: `look for a newer backup or a replica; with --accept-loss the last ${newest.size - size} entries are given up`,
    });
  }
  const report: VerifyReport = await verifyLog(options.into);
  const lost = Math.max(0, newest.size - report.size);
  return {
    mesh,
    size: report.size,
    root: report.root,
    sound: before,
    taken: report.size - before,
    lost,
    damage,
  };
}

const isTorn = (storage: LogStorage): Promise<boolean> =>
  scanLog(storage, { signatures: 'recent' }).then(
    () => true,
    () => false,
  );

/** The sound prefix byte for byte, and what the source has behind it; null where neither has anything. */
async function build(
  storage: LogStorage,
  { state, end }: Sound,
  source: CopySource,
  { into, segmentBytes }: RepairOptions,
): Promise<LogCopy | null> {
  const limits = segmentBytes === undefined ? {} : { segmentBytes };
  let copy: LogCopy | null = null;
  let from = null;
  if (end !== null) {
    const { checkpoint } = state;
    await copyPrefix(storage, into, end);
    from = { mesh: state.meshId!, size: checkpoint!.size, root: checkpoint!.root };
    copy = await LogCopy.open({ storage: into, mesh: from.mesh, ...limits });
  }
  try {
    for await (const piece of source.batches(from)) {
      if (copy === null)
        copy = await LogCopy.create({ storage: into, mesh: meshOf(piece), ...limits }, piece);
      else await copy.take(piece);
    }
  } catch (error) {
    await copy?.close();
    throw error;
  }
  return copy;
}

const meshOf = (piece: Buffer): string => meshIdOfLine(piece.subarray(0, piece.indexOf(0x0a)).toString());

const COPY_BYTES = 1024 * 1024;

/** Segments up to a place, each synced. */
async function copyPrefix(
  storage: LogStorage,
  into: LogStorage,
  end: { segment: number; offset: number },
): Promise<void> {
  for (const segment of (await storage.list()).filter((first) => first <= end.segment)) {
    const from = await storage.open(segment, 'read');
    const to = await into.create(segment);
    try {
      const length = segment === end.segment ? end.offset : await from.size();
      const chunk = Buffer.allocUnsafe(COPY_BYTES);
      for (let at = 0; at < length; ) {
        const read = await from.read(chunk.subarray(0, Math.min(COPY_BYTES, length - at)), at);
        if (read === 0) throw Object.assign(new Error('a segment became shorter'), { code: 'EIO' });
        for (let done = 0; done < read; ) done += await to.write(chunk.subarray(done, read), at + done);
        at += read;
      }
      await to.sync();
    } finally {
      await Promise.all([from.close(), to.close()]);
    }
  }
  await into.syncDirectory();
}

/**
 * Holds every signed checkpoint that still stands behind the sound prefix against the copy, and answers the newest of
 * both. Where nothing is sound they, or the folder's key, must show that it is the same mesh.
 */
async function compare(
  storage: LogStorage,
  sound: Sound,
  copy: LogCopy,
  source: CopySource,
  { logKey }: RepairOptions,
): Promise<Checkpoint> {
  const keys = [...logKeys(copy.leadership), copy.leadership.genesis.recoveryKey].map(publicKeyToBase64);
  const own = logKey === null ? null : publicKeyToBase64(logKey);
  let sameMesh = sound.end !== null || (own !== null && keys.includes(own));
  if (own !== null && !keys.includes(own)) keys.push(own);
  let newest = copy.checkpoint;
  let last = sound.state.checkpoint?.size ?? 0;
  const theirs = copy.batches(last);
  let their: Checkpoint | null = null;
  for await (const { checkpoint, place } of provedAfter(storage, sound, copy.meshId, keys)) {
    sameMesh = true;
    const { size, root } = checkpoint;
    if (size <= last) continue;
    last = size;
    while (size <= copy.size && (their === null || their.size < size)) {
      const next = await theirs.next();
      if (next.done === true) break;
      their = next.value.checkpoint;
    }
    if (size > copy.size) newest = checkpoint;
    else if (their?.size !== size || their.root !== root) {
      throw forked(source.name, { size, root, place }, their?.size === size ? their : null);
    }
  }
  await theirs.return(undefined);
  if (!sameMesh) {
    throw new SuperfleetError('SF_NOT_PROVED', 'nothing shows that the source is the log of this mesh', {
      expected: 'the log key of the folder, or a signed checkpoint in the damaged log',
      got: `${source.name}, of mesh ${copy.meshId}`,
      hint: 'put log.key of this mesh into the folder, or make a new folder: mesh-hub ledger import',
    });
  }
  return newest;
}

const CHECKPOINT_BEGINS = '{"checkpoint":"';

/** Signed checkpoints that stand behind the damage, wherever a whole one can be found. */
async function* provedAfter(
  storage: LogStorage,
  { end }: Sound,
  mesh: string,
  keys: string[],
): AsyncGenerator<Proved> {
  for (const segment of await storage.list()) {
    if (end !== null && segment < end.segment) continue;
    const file = await storage.open(segment, 'read');
    try {
      const size = await file.size();
      for (let at = end?.segment === segment ? end.offset : 0; at < size; ) {
        let stop = size;
        for await (const { lines, rest } of lineRuns(file, at)) {
          for (const { line, offset } of lines) {
            const checkpoint = provedBy(line, mesh, keys);
            if (checkpoint !== null) {
              yield { checkpoint, place: `${storage.describe(segment)} at byte ${offset}` };
            }
          }
          // Behind bytes that are no line the next newline is looked for.
          if (rest !== null) stop = rest.offset + rest.bytes.length;
        }
        at = stop;
      }
    } finally {
      await file.close();
    }
  }
}

function provedBy(line: Buffer, mesh: string, keys: string[]): Checkpoint | null {
  // What was lost may have taken the newline before it.
  const at = line.lastIndexOf(CHECKPOINT_BEGINS);
  if (at === -1) return null;
  for (const publicKey of keys) {
    try {
      const parsed = parseLine(line.subarray(at));
      if (parsed.kind !== 'checkpoint') return null;
      return verifyCheckpoint(parsed.checkpoint.text, { origin: mesh, publicKey });
    } catch {
      // Not under this key, or no checkpoint any more.
    }
  }
  return null;
}
