import { type Accepted, mismatch } from './acceptance.ts';
import { parseReceiptFile, type ReceiptFile } from './bundle.ts';
import { type Certificate, openCertificate } from './certificate.ts';
import { asSuperfleetError, EXIT, SuperfleetError } from './errors.ts';
import { type Leadership, leadershipOf } from './handover.ts';
import { publicKeyFromPeerId } from './keys.ts';
import { parseReceipt } from './receipt.ts';
import { sentencesOf } from './receipt-sentences.ts';
import type { Party, ReceiptFacts, ReceiptVerdict } from './receipt-verdict.ts';
import { claimedStatement, openStatement, type SignedStatement, statementDigest } from './statement.ts';
import { parseVerification } from './verification.ts';

/**
 * Checks a receipt file offline and without trusting anything in it: mesh id from the genesis line, certificates by
 * its log key, receipt and verification by the certified members, and that all of them speak of the same thing.
 * Pure, and never throws for what the file holds. `mesh` is the id the person trusts, null where there is none.
 */
export function verifyReceiptFile(bytes: Uint8Array, { mesh }: { mesh: string | null }): ReceiptVerdict {
  let facts: ReceiptFacts;
  try {
    facts = factsOf(parseReceiptFile(bytes));
    if (mesh !== null && facts.mesh !== mesh) throw notProved(`it is of mesh ${facts.mesh}, not of ${mesh}`);
  } catch (thrown) {
    const why = asSuperfleetError(thrown).message;
    const sentences = sentencesOf(null, { standing: 'not-proved', why });
    return {
      proved: false,
      standing: 'not-proved',
      exitCode: EXIT.notProved,
      why,
      sameOwner: null,
      facts: null,
      sentences,
    };
  }
  const standing = mesh === null ? 'signer-unknown' : 'proved';
  const why = mesh === null ? 'no mesh id was given to check it against' : null;
  return {
    proved: standing === 'proved',
    standing,
    exitCode: standing === 'proved' ? EXIT.ok : EXIT.notProved,
    why,
    sameOwner: facts.sameOwner,
    facts,
    sentences: sentencesOf(facts, { standing, why }),
  };
}

function factsOf(file: ReceiptFile): ReceiptFacts {
  const leadership = leadershipOf(file.genesis, file.handovers);
  const { genesis } = leadership;
  const certificates = certificatesOf(file, leadership);

  const executorId = parseReceipt(claimedStatement(file.receipt)).executor;
  const executor = certified(certificates, executorId, 'the executor');
  const receipt = opened(file.receipt, executorId, parseReceipt);
  if (receipt.facts.mesh !== genesis.mesh) throw notProved('the receipt is of another mesh');
  if (receipt.facts.executor !== executorId) throw notProved('the receipt names another executor');

  const facts: ReceiptFacts = {
    mesh: genesis.mesh,
    meshName: genesis.name,
    digest: receipt.digest,
    receipt: receipt.facts,
    verification: null,
    executor,
    verifier: null,
    sameOwner: null,
  };
  const parties = new Set([executorId]);
  if (file.verification !== null) {
    const verifierId = parseVerification(claimedStatement(file.verification)).verifier;
    const verifier = certified(certificates, verifierId, 'the verifier');
    const verification = opened(file.verification, verifierId, parseVerification).facts;
    if (verification.mesh !== genesis.mesh) throw notProved('the verification is of another mesh');
    if (verification.verifier !== verifierId) throw notProved('the verification names another verifier');
    const fault = mismatch(verification, receipt);
    if (fault !== null) throw notProved(`the verification does not count: ${fault}`);
    parties.add(verifierId);
    Object.assign(facts, { verification, verifier, sameOwner: executor.owner === verifier.owner });
  }
  for (const peer of certificates.keys()) {
    if (!parties.has(peer)) throw notProved(`it carries the certificate of ${peer}, who has no part in it`);
  }
  return facts;
}

/** Whoever leads the mesh when the file is made signs them anew, so the key is the newest that the file proves. */
function certificatesOf(file: ReceiptFile, { genesis, logKey }: Leadership): Map<string, Certificate> {
  const certificates = new Map<string, Certificate>();
  for (const signed of file.certificates) {
    const certificate = openCertificate(signed, logKey, genesis.mesh);
    if (certificates.has(certificate.peer))
      throw notProved(`it carries two certificates of ${certificate.peer}`);
    certificates.set(certificate.peer, certificate);
  }
  return certificates;
}

function certified(certificates: ReadonlyMap<string, Certificate>, peer: string, who: string): Party {
  const certificate = certificates.get(peer);
  if (certificate === undefined) throw notProved(`${who} ${peer} has no certificate of the mesh in the file`);
  return { id: peer, name: certificate.name, owner: certificate.owner };
}

function opened<T>(signed: SignedStatement, peer: string, parse: (bytes: Uint8Array) => T): Accepted<T> {
  const bytes = openStatement(signed, publicKeyFromPeerId(peer));
  return { facts: parse(bytes), digest: statementDigest(bytes) };
}

const notProved = (message: string): SuperfleetError => new SuperfleetError('SF_NOT_PROVED', message);
