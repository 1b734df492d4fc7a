import { randomBytes } from 'node:crypto';
import type { EventBody } from '../../ledger/lines/events.ts';
import { Log } from '../../ledger/log/log.ts';
import type { LogStorage } from '../../ledger/storage/storage.ts';
import { newNonce, ROLES } from '../../protocol/ids.ts';
import { publicKeyToBase64, type SigningKey } from '../../protocol/keys.ts';

export interface NewMesh {
  name: string;
  owner: string;
  /** Peer id of its founder. */
  founder: string;
  logKey: SigningKey;
  /** Raw public key. */
  recoveryKey: Uint8Array;
  /** What it was forked from. */
  parent: EventBody<'mesh.created'>['parent'];
}

/** Begins the log of a mesh: its genesis, and the founder's own membership. Durable when it resolves. */
export async function beginLog(storage: LogStorage, mesh: NewMesh): Promise<Log> {
  const { name, owner, founder, logKey, recoveryKey, parent } = mesh;
  const log = await Log.create({
    storage,
    genesis: {
      format: 1,
      name,
      founder,
      logKey: publicKeyToBase64(logKey.publicKey),
      recoveryKey: publicKeyToBase64(recoveryKey),
      parent,
      nonce: newNonce((length) => randomBytes(length)),
    },
    key: logKey,
    time: Date.now(),
  });
  const admitted = {
    peer: founder,
    name,
    owner,
    roles: [...ROLES],
    labels: {},
    via: { kind: 'genesis' as const },
    by: { kind: 'founder' as const },
  };
  await log.append([{ type: 'member.admitted', body: admitted }], Date.now(), 1).durable;
  return log;
}
