import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { EventBody, LogEvent } from '../../ledger/lines/events.ts';
import { Log, type LogLimits } from '../../ledger/log/log.ts';
import type { CompressingStorage, LogStorage } from '../../ledger/storage/storage.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { MemoryStorage } from '../../ledger/storage/storage-memory.ts';
import { publicKeyToBase64, type SigningKey, signingKeyFromSeed } from '../../protocol/keys.ts';

/** A fixed key, so that a test's log is the same bytes every time. */
export const KEY: SigningKey = signingKeyFromSeed(Buffer.alloc(32, 7));
export const OTHER_KEY: SigningKey = signingKeyFromSeed(Buffer.alloc(32, 8));
export const FOUNDER = `12D3KooW${'A'.repeat(44)}`;

export const GENESIS: EventBody<'mesh.created'> = {
  format: 1,
  name: 'home',
  founder: FOUNDER,
  logKey: publicKeyToBase64(KEY.publicKey),
  recoveryKey: publicKeyToBase64(OTHER_KEY.publicKey),
  parent: null,
  nonce: '0'.repeat(32),
};

const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';

/** A task id that counts. */
export const taskId = (n: number): string =>
  Array.from({ length: 12 }, (_, digit) => BASE32[Math.floor(n / 32 ** (11 - digit)) % 32]).join('');

/** A small event that names its number in its task. */
export const started = (n: number): LogEvent => ({
  type: 'attempt.started',
  body: { task: taskId(n), attempt: 1, correlation: `c${n}` },
});

/** An event about as long as asked for, with text in it that JSON escapes. */
export const long = (n: number, length: number): LogEvent => ({
  type: 'attempt.ended',
  body: {
    task: taskId(n),
    attempt: 1,
    correlation: `c${n}`,
    fault: 'task',
    reason: 'task',
    detail: '"é\n'.repeat(Math.ceil(length / 3)).slice(0, Math.min(length, 2048)),
    exitCode: 1,
    receipt: null,
    envelope: null,
    log: null,
  },
});

export const newLog = (storage: LogStorage, limits: Partial<LogLimits> = {}): Promise<Log> =>
  Log.create({ storage, genesis: GENESIS, key: KEY, time: 1_700_000_000_000, limits });

/** A storage of each kind and what takes it away again. */
export const BACKENDS: {
  name: string;
  make(): Promise<{ storage: CompressingStorage; remove(): Promise<void> }>;
}[] = [
  { name: 'memory', make: async () => ({ storage: new MemoryStorage(), remove: async () => undefined }) },
  {
    name: 'files',
    make: async () => {
      const folder = await mkdtemp(join(tmpdir(), 'superfleet-log-'));
      const remove = (): Promise<void> => rm(folder, { recursive: true });
      return { storage: new FileStorage(join(folder, 'log')), remove };
    },
  },
];

/** The whole of a log's bytes in memory: name and content of each file. */
export function image(storage: MemoryStorage): { name: string; bytes: Buffer }[] {
  return storage.names().map((name) => ({ name, bytes: Buffer.from(storage.bytes(name)!) }));
}
