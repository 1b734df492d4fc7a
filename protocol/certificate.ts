import { z } from 'zod';
import { type Envelope, openEnvelope, parseDocument, signEnvelope } from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { type Leadership, logKeys } from './handover.ts';
import { count, labels, memberName, meshId, ownerName, peerId, ROLES, roles } from './ids.ts';
import type { SigningKey } from './keys.ts';
import { unixMs as isoMs, timestamp } from './statement.ts';

/**
 * A membership certificate: the log key's signed word that a peer was let in, as which name, for which owner, with
 * which roles. It says what was true at its index; revocation is the roster's and the log's to tell.
 */
export const CERTIFICATE_PAYLOAD_TYPE = 'application/vnd.superfleet.certificate+json';
/** 64 labels of the longest form would pass it; a member has a handful. */
export const certificateBytesMax = 16 * 1024;

const schema = z.strictObject({
  mesh: meshId,
  peer: peerId,
  name: memberName,
  owner: ownerName,
  roles,
  labels,
  /** Epoch and index of the entry that admitted the peer. */
  epoch: count.min(1),
  index: count,
  issuedAt: isoMs,
});
/** `issuedAt` is Unix ms, informational. */
export type Certificate = z.infer<typeof schema>;

/** Deterministic: the same facts and key give the same bytes, whatever the order of roles and labels. */
export function issueCertificate(certificate: Certificate, logKey: SigningKey): Envelope {
  const { mesh, peer, name, owner, epoch, index, issuedAt } = certificate;
  const ordered = {
    mesh,
    peer,
    name,
    owner,
    roles: ROLES.filter((role) => certificate.roles.includes(role)),
    labels: Object.fromEntries(Object.entries(certificate.labels).sort(([a], [b]) => (a < b ? -1 : 1))),
    epoch,
    index,
    issuedAt: timestamp(issuedAt),
  };
  return signEnvelope(CERTIFICATE_PAYLOAD_TYPE, Buffer.from(JSON.stringify(ordered)), logKey);
}

/** The certificate, once the mesh's log key (raw) signed it for this mesh; else `SF_NOT_PROVED`. */
export function openCertificate(signed: Envelope, logKey: Uint8Array, mesh: string): Certificate {
  const payload = openEnvelope(signed, CERTIFICATE_PAYLOAD_TYPE, logKey);
  const certificate = parseDocument(payload, schema, certificateBytesMax, 'the certificate');
  if (certificate.mesh === mesh) return certificate;
  throw new SuperfleetError('SF_NOT_PROVED', 'the certificate is of another mesh', {
    expected: mesh,
    got: certificate.mesh,
  });
}

/** A certificate that the log key of any epoch signed: a member keeps the one it was let in with. */
export function openCertificateOf(leadership: Leadership, signed: Envelope): Certificate {
  let why: unknown = null;
  for (const key of logKeys(leadership).reverse()) {
    try {
      return openCertificate(signed, key, leadership.genesis.mesh);
    } catch (error) {
      why ??= error;
    }
  }
  throw why;
}
