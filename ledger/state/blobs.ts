import type { KnownEntry } from '../lines/entry.ts';

/** Blobs that an entry names and that the mesh keeps on the founder's disk: bundles, receipts, logs, artifacts. */
export function blobsOf(entry: KnownEntry): string[] {
  switch (entry.type) {
    case 'task.submitted':
      return entry.body.bundle === null ? [] : [entry.body.bundle.bundle];
    case 'attempt.ended': {
      const { envelope, log } = entry.body;
      return [...(envelope === null ? [] : [envelope]), ...(log === null ? [] : [log.blob])];
    }
    case 'task.executed': {
      const { envelope, bundle, log, artifacts } = entry.body;
      const results = [bundle, log, ...artifacts].flatMap((one) => (one === null ? [] : [one.blob]));
      return [envelope, ...results];
    }
    case 'task.partial':
      return [entry.body.bundle.blob];
    case 'task.verified':
    case 'task.replicated':
      return [entry.body.envelope];
    case 'task.reverified':
    case 'task.evidence':
      return entry.body.envelope === null ? [] : [entry.body.envelope];
    default:
      return [];
  }
}
