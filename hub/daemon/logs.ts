import type { AttemptRecord, TaskRecord } from '../../ledger/state/task-record.ts';
import type { BlobStore } from '../../node/blobs/types.ts';
import type { Host } from '../../node/network/host.ts';
import { tail } from '../../node/network/tail-client.ts';
import type { TailSource, TailSources } from '../../node/network/tail-source.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import type { ResultBlob } from '../../protocol/session.ts';
import { TERMINAL_STATES } from '../../protocol/task.ts';
import type { TaskWatch } from './watch.ts';

export interface TaskLogs {
  /** Throws `SF_NOT_FOUND` for one that never was. */
  task(id: string): Promise<TaskRecord>;
  blobs: BlobStore;
  host: Host;
  /** Output of the attempts of the founder's own member. */
  own: TailSources;
  watch: TaskWatch;
}

/** Without `follow`: what a running task has said so far ends where nothing came for this long. */
const SO_FAR_MS = 250;
const READ_BYTES = 64 * 1024;

/** A part of the output, and the offset of what follows it. */
interface Piece {
  bytes: Uint8Array;
  next: number;
}

/**
 * The output of a task's newest execution: live from its member while it runs, from the log blob once that is here.
 * With `follow` it goes on over lost and repeated attempts until the task has ended.
 */
export async function* taskLog(
  logs: TaskLogs,
  id: string,
  options: { follow: boolean; signal: AbortSignal },
): AsyncGenerator<Uint8Array> {
  let attempt = 0;
  let offset = 0;
  const ending = new AbortController();
  const signal = AbortSignal.any([options.signal, ending.signal]);
  try {
    for await (const _ of logs.watch.changes(id, signal)) {
      const task = await logs.task(id);
      const newest = task.attempts.findLast(({ role }) => role === 'execute');
      if (newest !== undefined && newest.number !== attempt) {
        if (offset > 0) yield Buffer.from(`\n── attempt ${newest.number} ──\n`);
        attempt = newest.number;
        offset = 0;
      }
      if (newest !== undefined) {
        const live = newest.end === null;
        const source = live
          ? liveOutput(logs, task, newest, offset, options, signal)
          : kept(logs, task, newest, offset);
        for await (const { bytes, next } of source) {
          offset = next;
          yield bytes;
        }
      }
      if (!options.follow || TERMINAL_STATES.has(task.state)) return;
    }
  } finally {
    ending.abort();
  }
}

/** The log as the founder keeps it, from an offset on. */
async function* kept(
  { blobs }: TaskLogs,
  task: TaskRecord,
  attempt: AttemptRecord,
  from: number,
): AsyncGenerator<Piece> {
  const log = logOf(task, attempt);
  if (log === null || !(await blobs.has(log.blob))) return;
  let at = 0;
  for await (const bytes of blobs.read(log.blob)) {
    const skip = Math.max(0, from - at);
    at += bytes.byteLength;
    if (skip < bytes.byteLength) yield { bytes: bytes.subarray(skip), next: at };
  }
}

function logOf(task: TaskRecord, attempt: AttemptRecord): ResultBlob | null {
  if (task.accepted?.attempt === attempt.number) return task.accepted.log;
  return attempt.end?.kind === 'ended' ? attempt.end.log : null;
}

async function* liveOutput(
  logs: TaskLogs,
  task: TaskRecord,
  attempt: AttemptRecord,
  from: number,
  options: { follow: boolean },
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const stop = new AbortController();
  const until = AbortSignal.any([signal, stop.signal]);
  let quiet = options.follow ? null : setTimeout(() => stop.abort(), SO_FAR_MS);
  try {
    const own = logs.own.get(task.id, attempt.number);
    const source =
      attempt.member === logs.host.peer
        ? own === undefined
          ? []
          : ownOutput(own, from, until)
        : remoteOutput(logs.host, task.id, attempt, from, until);
    for await (const piece of source) {
      if (quiet !== null) clearTimeout(quiet);
      yield piece;
      quiet = options.follow ? null : setTimeout(() => stop.abort(), SO_FAR_MS);
    }
  } catch (thrown) {
    // The member is gone or not yet there: what comes next is an entry of the log, and the caller waits for it.
    if (!until.aborted && asSuperfleetError(thrown).code !== 'SF_UNREACHABLE') throw thrown;
  } finally {
    if (quiet !== null) clearTimeout(quiet);
  }
}

async function* remoteOutput(
  host: Host,
  task: string,
  attempt: AttemptRecord,
  from: number,
  signal: AbortSignal,
): AsyncGenerator<Piece> {
  const connection = await host.dial(attempt.member, [], signal);
  for await (const event of tail(connection, { task, attempt: attempt.number, from }, signal)) {
    if (event.type === 'bytes') yield { bytes: event.bytes, next: event.offset + event.bytes.byteLength };
    if (event.type === 'dropped') {
      yield {
        bytes: Buffer.from(`\n── ${event.bytes} bytes were not kept for live view ──\n`),
        next: event.offset + event.bytes,
      };
    }
    if (event.type === 'end') return;
  }
}

async function* ownOutput(source: TailSource, from: number, signal: AbortSignal): AsyncGenerator<Piece> {
  let offset = from;
  while (!signal.aborted) {
    const read = source.read(offset, READ_BYTES);
    offset += read.dropped;
    if (read.state === 'ended') return;
    if (read.state === 'bytes') {
      offset += read.bytes.byteLength;
      yield { bytes: read.bytes, next: offset };
      continue;
    }
    await new Promise<void>((resolve) => {
      const done = (): void => {
        off();
        signal.removeEventListener('abort', done);
        resolve();
      };
      const off = source.onChange(done);
      signal.addEventListener('abort', done);
      if (signal.aborted) done();
    });
  }
}
