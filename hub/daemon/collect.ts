import type { BlobStore } from '../../node/blobs/types.ts';
import { fetchBlobs } from '../../node/network/blob-client.ts';
import type { Host } from '../../node/network/host.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import type { CollectFailure, FounderEffect, FounderInput } from '../core/types.ts';

type Collect = Extract<FounderEffect, { type: 'collect' }>;
type Collected = Extract<FounderInput, { type: 'collected' }>;

/** A result is pulled within this, whatever its size: about 4 GiB over a slow LAN. */
const COLLECT_MS = 30 * 60_000;

/**
 * Pulls everything a result names from the member, verified and synced, before anyone says `executed`. The founder's
 * own member has put its blobs into this very store. Never rejects: a failure is what the core is told.
 */
export async function collectResult(
  effect: Collect,
  own: string,
  host: Host,
  store: BlobStore,
  ending: AbortSignal,
): Promise<Collected> {
  const { peer, lease } = effect;
  const collected = { type: 'collected', peer, lease } as const;
  try {
    const put = effect.envelope === null ? null : store.put(Buffer.from(effect.envelope));
    if (effect.blobs.length > 0) {
      // Both are waited for: nothing is still being written when the core is told.
      const held = peer === own ? assertHeld(effect, store) : pull(effect, host, store, ending);
      const [pulled] = await Promise.allSettled([held, put]);
      if (pulled.status === 'rejected') throw pulled.reason;
    }
    return { ...collected, envelopeBlob: (await put)?.blob ?? null, failure: null };
  } catch (thrown) {
    return { ...collected, envelopeBlob: null, failure: failureOf(thrown) };
  }
}

async function pull(effect: Collect, host: Host, store: BlobStore, ending: AbortSignal): Promise<void> {
  const signal = AbortSignal.any([ending, AbortSignal.timeout(COLLECT_MS)]);
  const got = await fetchBlobs(host, effect.peer, effect.blobs, store, signal);
  effect.blobs.forEach((said, at) => {
    const { sha256, bytes } = got[at]!;
    if (said.sha256 === sha256 && said.bytes === bytes) return;
    throw new SuperfleetError(
      'SF_NOT_PROVED',
      `member ${effect.peer} sent another blob than its result names`,
      {
        expected: `${said.bytes} bytes with SHA-256 ${said.sha256}`,
        got: `${bytes} bytes with SHA-256 ${sha256}`,
      },
    );
  });
}

async function assertHeld(effect: Collect, store: BlobStore): Promise<void> {
  for (const { blob } of effect.blobs) {
    if (await store.has(blob)) continue;
    throw new SuperfleetError(
      'SF_NOT_PROVED',
      `the founder's own member names a blob it does not have: ${blob}`,
    );
  }
}

function failureOf(thrown: unknown): CollectFailure {
  const { code, message } = asSuperfleetError(thrown);
  const detail = `${code}: ${message}`.slice(0, 1024);
  if (code === 'SF_NOT_PROVED' || code === 'SF_FRAME') return { kind: 'bad', detail };
  if (code === 'SF_DISK_FULL' || code === 'SF_FULL') return { kind: 'disk', detail };
  return { kind: 'gone', detail };
}
