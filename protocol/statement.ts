import { hash } from 'node:crypto';
import { z } from 'zod';
import { type Envelope, envelope, openEnvelope, parseDocument, parseJson, signEnvelope } from './dsse.ts';
import { SuperfleetError } from './errors.ts';
import { fitsOf } from './fits.ts';
import { sha256Hex } from './ids.ts';
import { peerIdFromPublicKey, type SigningKey } from './keys.ts';
import { envelopeBytesMax } from './limits.ts';

/** in-toto Attestation Framework v1: the type of every statement, and the DSSE type it travels under. */
export const STATEMENT_TYPE = 'https://in-toto.io/Statement/v1';
export const STATEMENT_PAYLOAD_TYPE = 'application/vnd.in-toto+json';
/** What a signature over many statements covers: the root of their tree. */
export const BATCH_PAYLOAD_TYPE = 'application/vnd.superfleet.batch+json';

/** Steps from a statement to its batch root: a batch holds at most 2^32 statements. */
const pathStepsMax = 32;
/** Bytes of a statement that in base64, with its signature and the longest path, still fits `envelopeBytesMax`. */
export const statementBytesMax = Math.floor((envelopeBytesMax - 4096) / 4) * 3;

/**
 * A signed statement, the one form in which receipts and verifications travel and are kept.
 *
 * With an empty path `envelope` is the statement's own DSSE envelope and `statement` is null. With a path the
 * envelope signs `{"root": …}` under the batch type, `statement` is the statement's bytes in base64, and its leaf
 * leads to that root by the path. A reader of today checks both, and the digest of a statement is taken from its own
 * bytes in both: so signing in batches changes neither file, wire, log nor what a verification binds.
 */
export const signedStatement = z.strictObject({
  envelope,
  batch: z.strictObject({
    path: z.array(z.strictObject({ side: z.enum(['left', 'right']), hash: sha256Hex })).max(pathStepsMax),
    statement: z.string().max(envelopeBytesMax).nullable(),
  }),
});
export type SignedStatement = z.infer<typeof signedStatement>;
type PathStep = SignedStatement['batch']['path'][number];

/** One signature for one statement. `SF_FULL` past `statementBytesMax`. */
export function signStatement(statement: Uint8Array, key: SigningKey): SignedStatement {
  requireFits(statement);
  return {
    envelope: signEnvelope(STATEMENT_PAYLOAD_TYPE, statement, key),
    batch: { path: [], statement: null },
  };
}

/** One signature for many statements, in their order. A batch of one is what `signStatement` gives. */
export function signBatch(statements: readonly Uint8Array[], key: SigningKey): SignedStatement[] {
  const [first] = statements;
  if (first === undefined) return [];
  if (statements.length === 1) return [signStatement(first, key)];
  for (const statement of statements) requireFits(statement);
  const { root, paths } = merkleTree(statements.map(leafHash));
  const signed = signEnvelope(BATCH_PAYLOAD_TYPE, Buffer.from(JSON.stringify({ root: hex(root) })), key);
  return statements.map((statement, index) => ({
    envelope: signed,
    batch: { path: paths[index] ?? [], statement: Buffer.from(statement).toString('base64') },
  }));
}

/** The statement's bytes, once the signature under this raw public key covers them, alone or by their batch's root. */
export function openStatement(signed: SignedStatement, publicKey: Uint8Array): Uint8Array {
  const { path, statement } = signed.batch;
  if (path.length === 0) {
    if (statement !== null) throw notProved('a statement that is signed alone stands in its envelope only');
    return openEnvelope(signed.envelope, STATEMENT_PAYLOAD_TYPE, publicKey);
  }
  const root = openRoot(signed.envelope, publicKey);
  const bytes = Buffer.from(statement ?? '', 'base64');
  if (bytes.toString('base64') !== statement) throw notProved('the statement of the batch is not base64');
  if (!root.holds(leafHash(bytes), path))
    throw notProved('the statement is not in the batch that was signed');
  return bytes;
}

const batchRoot = z.strictObject({ root: sha256Hex });

/** Nodes kept of one root, and steps of a path that is kept: as a batch of a few hundred statements has. Whoever signs deeper trees costs no memory. */
const nodesMax = 512;
const learnedStepsMax = 10;

/** A root whose signature held, and what is known to lie below it. */
class OpenedRoot {
  readonly #root: string;
  /** Nodes that lead to the root, each with the path on which it does: from `from` on. */
  readonly #nodes = new Map<string, { path: readonly PathStep[]; from: number }>();

  constructor(root: string) {
    this.#root = root;
  }

  /** Whether this path leads from the leaf to the root. Where it meets one that did before, the rest need only be the same. */
  holds(leaf: Buffer, path: readonly PathStep[]): boolean {
    const met: string[] = [];
    let at = leaf;
    for (const [index, step] of path.entries()) {
      const other = Buffer.from(step.hash, 'hex');
      at = step.side === 'left' ? nodeHash(other, at) : nodeHash(at, other);
      const name = hex(at);
      const known = this.#nodes.get(name);
      // Equal statements make equal nodes in several places of a tree: of those but one the whole path is reckoned.
      if (known !== undefined && sameRest(path, index + 1, known)) return this.#learn(met, path);
      met.push(name);
    }
    return hex(at) === this.#root && this.#learn(met, path);
  }

  #learn(met: readonly string[], path: readonly PathStep[]): true {
    if (path.length > learnedStepsMax) return true;
    if (this.#nodes.size > nodesMax) this.#nodes.clear();
    for (const [index, name] of met.entries()) this.#nodes.set(name, { path, from: index + 1 });
    return true;
  }
}

function sameRest(
  path: readonly PathStep[],
  from: number,
  known: { path: readonly PathStep[]; from: number },
): boolean {
  if (path.length - from !== known.path.length - known.from) return false;
  for (let ahead = 0; from + ahead < path.length; ahead += 1) {
    const [one, other] = [path[from + ahead]!, known.path[known.from + ahead]!];
    if (one.side !== other.side || one.hash !== other.hash) return false;
  }
  return true;
}

/** Roots whose signatures held lately, by signature: the statements of a batch come one after the other. */
const openedRoots = new Map<string, { by: string; signed: Envelope; root: OpenedRoot }>();
const openedRootsMax = 256;

/** The root that this envelope signs; each signature is checked once for its batch. */
function openRoot(signed: Envelope, publicKey: Uint8Array): OpenedRoot {
  const by = peerIdFromPublicKey(publicKey);
  const { sig } = signed.signatures[0]!;
  const known = openedRoots.get(sig);
  if (known !== undefined && known.by === by && sameEnvelope(known.signed, signed)) return known.root;
  const bytes = openEnvelope(signed, BATCH_PAYLOAD_TYPE, publicKey);
  const root = new OpenedRoot(parseDocument(bytes, batchRoot, 128, 'the batch root').root);
  if (openedRoots.size >= openedRootsMax)
    for (const oldest of openedRoots.keys()) if (openedRoots.delete(oldest)) break;
  openedRoots.set(sig, { by, signed, root });
  return root;
}

const sameEnvelope = (one: Envelope, other: Envelope): boolean =>
  one.payload === other.payload &&
  one.payloadType === other.payloadType &&
  one.signatures[0]!.keyid === other.signatures[0]!.keyid &&
  one.signatures[0]!.sig === other.signatures[0]!.sig;

/** The bytes a signed statement claims to carry, unchecked: only to learn whose key to check it with. */
export function claimedStatement(signed: SignedStatement): Uint8Array {
  return Buffer.from(
    signed.batch.path.length === 0 ? signed.envelope.payload : (signed.batch.statement ?? ''),
    'base64',
  );
}

/** SHA-256 of a statement's bytes: what a receipt is called by everywhere. */
export const statementDigest = (statement: Uint8Array): string => hash('sha256', statement, 'hex');

/** One line of JSON: what `AttemptResult.envelope` and the envelope blobs hold. */
export const encodeSigned = (signed: SignedStatement): string => JSON.stringify(signed);

/** Back from that text, bounded; `SF_NOT_PROVED` says what is wrong. */
export const parseSigned = (text: string | Uint8Array): SignedStatement =>
  parseJson(text, signedStatement, envelopeBytesMax, 'the signed statement', signedFits);
const signedFits = fitsOf(signedStatement);

const isoTime = z.iso.datetime({ precision: 3 });
/** RFC 3339 in UTC with milliseconds from Unix ms. */
export const timestamp = (ms: number): string => new Date(ms).toISOString();
/** Unix ms from that form, as a schema. */
export const unixMs = isoTime.transform((text) => Date.parse(text));

/** in-toto ResourceDescriptor, the fields we read. Unknown ones are skipped, as in-toto asks of consumers. */
export const gitCommitDigest = z.object({ gitCommit: z.string().regex(/^([0-9a-f]{40}|[0-9a-f]{64})$/) });
export const sha256Digest = z.object({ sha256: sha256Hex });

function requireFits(statement: Uint8Array): void {
  if (statement.length <= statementBytesMax) return;
  throw new SuperfleetError('SF_FULL', 'the statement is too large to be signed', {
    expected: `at most ${statementBytesMax} bytes`,
    got: `${statement.length} bytes`,
    hint: 'give the task shorter arguments, or fewer and shorter names of checks and artifacts',
  });
}

const hex = (bytes: Uint8Array): string => Buffer.from(bytes).toString('hex');
const HASH_BYTES = 32;
// RFC 6962's prefixes: a node can never be taken for a leaf.
const LEAF = Uint8Array.of(0);
/** Prefix and two children; one node is reckoned at a time. */
const node = Buffer.alloc(1 + 2 * HASH_BYTES, 1);

const leafHash = (statement: Uint8Array): Buffer =>
  hash('sha256', Buffer.concat([LEAF, statement]), 'buffer');

function nodeHash(left: Uint8Array, right: Uint8Array): Buffer {
  node.set(left, 1);
  node.set(right, 1 + HASH_BYTES);
  return hash('sha256', node, 'buffer');
}

/** Level by level; a node without a partner rises as it is (the tree of RFC 6962 §2.1). */
function merkleTree(leaves: readonly Buffer[]): { root: Buffer; paths: PathStep[][] } {
  const paths: PathStep[][] = leaves.map(() => []);
  let level = leaves.map((hash, index) => ({ hash, members: [index] }));
  while (level.length > 1) {
    const next: typeof level = [];
    for (let at = 0; at < level.length; at += 2) {
      const [left, right] = [level[at]!, level[at + 1]];
      if (right === undefined) {
        next.push(left);
        continue;
      }
      for (const member of left.members) paths[member]!.push({ side: 'right', hash: hex(right.hash) });
      for (const member of right.members) paths[member]!.push({ side: 'left', hash: hex(left.hash) });
      next.push({ hash: nodeHash(left.hash, right.hash), members: [...left.members, ...right.members] });
    }
    level = next;
  }
  return { root: level[0]!.hash, paths };
}

function notProved(message: string): SuperfleetError {
  return new SuperfleetError('SF_NOT_PROVED', message);
}
