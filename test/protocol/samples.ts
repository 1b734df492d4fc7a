import { createHash } from 'node:crypto';
import { encodeReceiptFile, RECEIPT_FILE_FORMAT, type ReceiptFile } from '../../protocol/bundle.ts';
import { type Certificate, issueCertificate } from '../../protocol/certificate.ts';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import { publicKeyToBase64, type SigningKey, signingKeyFromSeed } from '../../protocol/keys.ts';
import { buildReceipt, type Receipt } from '../../protocol/receipt.ts';
import { signStatement, statementDigest } from '../../protocol/statement.ts';
import { taskSpec } from '../../protocol/task.ts';
import { buildVerification, type Verification } from '../../protocol/verification.ts';

/** One small mesh with fixed keys: the same bytes on every machine and every day. */
export const keyOf = (name: string): SigningKey =>
  signingKeyFromSeed(createHash('sha256').update(`sample ${name}`).digest());

export const digestOf = (text: string): string => createHash('sha256').update(text).digest('hex');

export const keys = {
  log: keyOf('log'),
  founder: keyOf('founder'),
  executor: keyOf('executor'),
  verifier: keyOf('verifier'),
  stranger: keyOf('stranger'),
};

export const genesis = JSON.stringify({
  index: 0,
  epoch: 1,
  time: 1_760_000_000_000,
  type: 'mesh.created',
  body: {
    format: 1,
    name: 'lab',
    founder: keys.founder.peer,
    logKey: publicKeyToBase64(keys.log.publicKey),
    recoveryKey: publicKeyToBase64(keyOf('recovery').publicKey),
    parent: null,
    nonce: '5'.repeat(32),
  },
});
export const mesh = meshIdOfLine(genesis);

export const spec = taskSpec.parse({
  kind: 'command',
  argv: ['sh', '-c', 'npm run build > out.txt'],
  checks: ['npm test', 'test -s out.txt'],
  env: { MODE: 'fast' },
  secrets: ['TOKEN'],
  artifacts: ['out.txt'],
  repository: { id: 'a'.repeat(40), name: 'demo', ref: 'main', base: 'b'.repeat(40) },
});

export const receipt: Receipt = {
  mesh,
  task: 'abcdefghijkl',
  attempt: 1,
  epoch: 1,
  nonce: '1'.repeat(32),
  executor: keys.executor.peer,
  spec: runSpecOf(),
  sandbox: 'bubblewrap',
  limits: { memory: 'cgroup', processes: 'nproc', disk: 'watched' },
  startedAt: 1_760_000_100_000,
  finishedAt: 1_760_000_161_500,
  outcome: 'succeeded',
  reason: null,
  exitCode: 0,
  work: null,
  checks: [
    { line: 'npm test', exitCode: 0 },
    { line: 'test -s out.txt', exitCode: 0 },
  ],
  checksChanged: [],
  commit: 'c'.repeat(40),
  bundle: { bytes: 2048, sha256: digestOf('bundle') },
  log: { bytes: 77, sha256: digestOf('log') },
  artifacts: [{ path: 'out.txt', bytes: 5, sha256: digestOf('out') }],
};

export const verification: Verification = {
  mesh,
  task: receipt.task,
  attempt: 1,
  receipt: statementDigest(buildReceipt(receipt)),
  commit: receipt.commit,
  verifier: keys.verifier.peer,
  verifierAttempt: 2,
  epoch: 1,
  nonce: '2'.repeat(32),
  passed: true,
  detail: null,
  checks: receipt.checks,
  checksChanged: [],
  startedAt: 1_760_000_170_000,
  finishedAt: 1_760_000_190_000,
};

export const certificateOf = (
  who: 'executor' | 'verifier',
  change: Partial<Certificate> = {},
): Certificate => ({
  mesh,
  peer: keys[who].peer,
  name: who === 'executor' ? 'laptop' : 'desktop',
  owner: who === 'executor' ? 'Anna' : 'Bert',
  roles: ['worker'],
  labels: {},
  epoch: 1,
  index: who === 'executor' ? 3 : 4,
  issuedAt: 1_760_000_050_000,
  ...change,
});

/** The parts of a receipt file, each open to change. */
export function fileOf(change: Partial<ReceiptFile> = {}): ReceiptFile {
  return {
    format: RECEIPT_FILE_FORMAT,
    receipt: signStatement(buildReceipt(receipt), keys.executor),
    verification: signStatement(buildVerification(verification), keys.verifier),
    genesis,
    handovers: [],
    certificates: [
      issueCertificate(certificateOf('executor'), keys.log),
      issueCertificate(certificateOf('verifier'), keys.log),
    ],
    ...change,
  };
}

export const fileBytes = (change: Partial<ReceiptFile> = {}): Uint8Array => encodeReceiptFile(fileOf(change));

function runSpecOf(): Receipt['spec'] {
  const { labels, on, retries, requireVerified, ...run } = spec;
  return run;
}

/** The spec of a command; another one is a fault of the test. */
export function commandOf(of: Receipt['spec']): Extract<Receipt['spec'], { kind: 'command' }> {
  if (of.kind !== 'command') throw new Error(`not a command: ${of.kind}`);
  return of;
}

/** The code of the SuperfleetError that this throws; null where it throws nothing. */
export function codeOf(run: () => unknown): string | null {
  try {
    run();
    return null;
  } catch (error) {
    return error instanceof Error && 'code' in error ? String(error.code) : String(error);
  }
}

export function messageOf(run: () => unknown): string {
  try {
    run();
    return '';
  } catch (error) {
    return error instanceof Error ? error.message : String(error);
  }
}
