import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { makeCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import { cosign } from '../../../ledger/lines/cosignature.ts';
import { Log } from '../../../ledger/log/log.ts';
import { Frontier, leafHash } from '../../../ledger/proofs/merkle.ts';
import {
  encodeProofFile,
  keptCheckpoint,
  PROOF_FORMAT,
  type ProofFile,
  parseProofFile,
} from '../../../ledger/proofs/proof-file.ts';
import { LogProofs } from '../../../ledger/proofs/proofs.ts';
import { MemoryTileStore } from '../../../ledger/proofs/tile-store.ts';
import { verifyProofFile } from '../../../ledger/proofs/verify-proof.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import { buildReceipt } from '../../../protocol/receipt.ts';
import { signStatement } from '../../../protocol/statement.ts';
import { fileOf, genesis, keyOf, keys, mesh, receipt } from '../../protocol/samples.ts';
import { started } from '../kit.ts';
import { entryProof, fill, finish, growthProof, sampleLog, TIME } from '../proof-kit.ts';

const sample = await sampleLog();
await fill(sample.log, 40);
const kept = sample.log.checkpoint.text;
const keptSize = sample.log.size;
await fill(sample.log, 300);
const at = await finish(sample.log);
await fill(sample.log, 23);
const withReceipt = await entryProof(sample, at.converged, fileOf());
const bare = await entryProof(sample, 7);
const growth = await growthProof(sample, keptSize);
test.after(() => sample.close());

const partsOf = (bytes: Uint8Array): ProofFile => {
  const file = parseProofFile(bytes);
  if (file.format !== PROOF_FORMAT) throw new Error('no proof of an entry');
  return file;
};
const parts = partsOf(withReceipt);
const last = (bytes: Uint8Array, by: { mesh?: string | null; since?: string | null } = {}): string => {
  const verdict = verifyProofFile(bytes, { mesh, since: null, ...by });
  assert.is(verdict.exitCode, verdict.proved ? 0 : 5);
  return verdict.sentences.at(-1)!;
};
const refused = (change: Partial<ProofFile>, why: RegExp): void => {
  const verdict = verifyProofFile(encodeProofFile({ ...parts, ...change }), { mesh, since: null });
  assert.is(verdict.proved, false);
  assert.is(verdict.exitCode, 5);
  assert.is(verdict.facts, null);
  assert.match(verdict.sentences.at(-1)!, /^not proved: /);
  assert.match(verdict.why!, why);
};

test('a proof file shows that the entry, and the receipt it names, are under the signed root (promise 4)', () => {
  const verdict = verifyProofFile(withReceipt, { mesh, since: null });
  assert.is(
    verdict.sentences.at(-1),
    `proved: laptop ran task abcdefghijkl, and desktop verified it; entry ${at.converged} of mesh lab (task.converged) names this receipt`,
  );
  assert.is(verdict.facts?.size, sample.log.size);
  assert.is(verdict.facts?.root, sample.log.checkpoint.root);
  assert.ok(verdict.sentences.includes('What this does not prove:'));
  assert.is(last(bare), 'proved: entry 7 of mesh lab is attempt.started');
});

test('each entry that names a receipt proves it, and says whether it names the verification', async () => {
  for (const index of [at.executed, at.verified, at.converged]) {
    const verdict = verifyProofFile(await entryProof(sample, index, fileOf()), { mesh, since: null });
    assert.ok(verdict.proved, verdict.why ?? '');
    const named = verdict.sentences.some((line) => line.startsWith('It names the verification '));
    assert.is(named, index !== at.executed);
  }
});

test('without a mesh the signature is good and the signer unknown; of another mesh it is not proved', () => {
  assert.is(last(withReceipt, { mesh: null }), 'signature good, signer unknown');
  assert.is(last(growth, { mesh: null, since: kept }), 'signature good, signer unknown');
  assert.match(last(withReceipt, { mesh: 'f'.repeat(64) }), /^not proved: it is of mesh/);
});

test('path and checkpoint take at most 2 KiB at a million entries', () => {
  const { checkpoint } = parts;
  const hash = Buffer.alloc(32, 255).toString('base64');
  const long = { ...partsOf(bare), path: Array.from({ length: 20 }, () => hash) };
  const bytes = encodeProofFile(long).length;
  const without = encodeProofFile({ ...long, path: [], checkpoint: '' }).length;
  const size = checkpoint.replace(/^\d+$/m, '1000000').length - checkpoint.length;
  assert.ok(bytes - without + size <= 2048, `${bytes - without + size} bytes`);
});

test('every changed, missing or added byte of a proof file ends not proved', () => {
  const cosigned = encodeProofFile({
    ...partsOf(bare),
    checkpoint: cosign(sample.log.checkpoint.text, {
      name: keys.verifier.peer,
      key: keys.verifier,
      time: 1_760_000_000,
    }),
  });
  assert.match(last(cosigned), /^proved: /);
  for (const [name, good, since] of [
    ['with a receipt', withReceipt, null],
    ['bare, cosigned', cosigned, null],
    ['growth', growth, kept],
  ] as const) {
    for (let byte = 0; byte < good.length; byte += 1) {
      const changed = Buffer.from(good);
      changed[byte] = changed[byte]! ^ (1 << (byte % 8));
      const verdict = verifyProofFile(changed, { mesh, since });
      assert.not.ok(verdict.proved, `${name}: bit ${byte % 8} of byte ${byte}`);
      assert.is(verdict.exitCode, 5);
      assert.match(verdict.sentences.at(-1)!, /^not proved: ./);
    }
    fc.assert(
      fc.property(fc.nat(good.length - 1), fc.nat(255), fc.nat(2), (place, byte, kind) => {
        if (kind === 0 && good[place] === byte) return;
        const middle = kind === 2 ? [] : [byte];
        const rest = good.subarray(kind === 1 ? place : place + 1);
        const changed = Buffer.concat([good.subarray(0, place), Uint8Array.from(middle), rest]);
        assert.not.ok(verifyProofFile(changed, { mesh, since }).proved, name);
      }),
      { numRuns: 300 },
    );
  }
});

test('whatever the bytes are, the answer is a verdict and never an exception', () => {
  const text = fc.string({ maxLength: 60 });
  fc.assert(
    fc.property(
      fc.oneof(
        fc.uint8Array({ maxLength: 200 }),
        fc.json().map((json) => Buffer.from(json)),
        fc
          .record({
            entry: text,
            checkpoint: text,
            genesis: text,
            handovers: fc.array(text, { maxLength: 3 }),
          })
          .map((change) => encodeProofFile({ ...parts, receipt: null, ...change })),
        fc
          .record({ index: fc.nat(), path: fc.array(fc.constantFrom(...parts.path), { maxLength: 54 }) })
          .map((change) => encodeProofFile({ ...parts, ...change })),
      ),
      fc.option(text),
      (bytes, since) => {
        for (const known of [mesh, null]) {
          const verdict = verifyProofFile(bytes, { mesh: known, since });
          assert.not.ok(verdict.proved);
        }
      },
    ),
    { numRuns: 400 },
  );
  assert.match(last(Buffer.alloc(3 * 1024 * 1024, 0x20)), /^not proved: .*too large/);
});

test('a proof holds only for the entry, the receipt and the lines that it says', async () => {
  const other = partsOf(await entryProof(sample, at.executed));
  refused({ entry: other.entry, index: other.index }, /leads to another root|another length/);
  refused({ index: at.executed }, /another root|carries entry/);
  refused({ entry: other.entry }, /another root/);
  refused({ path: parts.path.slice(1) }, /another length/);
  refused({ path: other.path }, /another root/);
  refused({ entry: `${parts.entry} ` }, /another root/);
  const started = partsOf(bare);
  refused({ ...started, receipt: parts.receipt }, /names no receipt/);
  const unverified = fileOf({ verification: null, certificates: parts.receipt!.certificates.slice(0, 1) });
  refused({ receipt: unverified }, /another verification/);
  refused({ receipt: { ...parts.receipt!, receipt: parts.receipt!.verification! } }, /receipt/);
  refused({ receipt: { ...parts.receipt!, handovers: ['x'] } }, /other lines of the log/);
  const another = signStatement(buildReceipt({ ...receipt, commit: 'd'.repeat(40) }), keys.executor);
  refused({ receipt: { ...unverified, receipt: another } }, /names another receipt/);
});

test('an entry that does not name its own place proves nothing, whoever signed the root over it (promise 4)', () => {
  const line = parts.entry.replace(/^\{"index":\d+/, '{"index":7');
  const frontier = new Frontier();
  for (const leaf of [genesis, line]) frontier.append(leafHash(leaf));
  const said = { origin: mesh, size: 2, root: frontier.root().toString('hex') };
  const checkpoint = makeCheckpoint(said, keys.log).text;
  const path = [leafHash(genesis).toString('base64')];
  refused({ entry: line, index: 1, path, checkpoint }, /names entry 1 and carries entry 7/);
});

test('a checkpoint of another key, of another log or of two minds proves nothing', () => {
  const { size, root, text } = sample.log.checkpoint;
  const stranger = makeCheckpoint({ origin: mesh, size, root }, keys.stranger).text;
  refused({ checkpoint: stranger }, /not signed by the log key/);
  const elsewhere = makeCheckpoint({ origin: 'f'.repeat(64), size, root }, keys.log).text;
  refused({ checkpoint: elsewhere }, /another log/);
  refused({ checkpoint: kept }, /impossible/);
  const forged = stranger.split('\n').at(-2)!;
  refused({ checkpoint: `${text}${forged}\n` }, /twice under one name/);
  refused({ checkpoint: `${text}${forged.replace(mesh, 'a-witness')}\n` }, /no peer id/);
  const witness = keys.verifier.peer;
  refused({ checkpoint: `${text}${forged.replace(mesh, witness)}\n` }, /not signed by this witness/);
});

test('after a handover the new key speaks, and the old one only for what it signed', async () => {
  const mine = await sampleLog();
  await fill(mine.log, 5);
  await mine.log.handOver({ founder: keys.executor.peer, logKey: keyOf('next').publicKey }, TIME + 9);
  const bytes = await entryProof(mine, 3);
  assert.match(last(bytes), /^proved: /);
  const file = partsOf(bytes);
  // As a founder that was taken out of office would go on. In a tree of eight the path of entry 3 is that of seven.
  const { size, root } = mine.log.checkpoint;
  const late = (key: typeof keys.log): Uint8Array =>
    encodeProofFile({
      ...file,
      checkpoint: makeCheckpoint({ origin: mesh, size: size + 1, root }, key).text,
    });
  assert.match(last(late(keys.log)), /not signed by the log key/);
  assert.match(last(late(keyOf('next'))), /^proved: /);
  await mine.close();
});

test('whoever kept a checkpoint sees that the log only grew since, from any form of it', () => {
  const size = sample.log.size;
  const proved = `proved: the log of mesh lab at ${size} entries begins with the ${keptSize} of the checkpoint you kept`;
  assert.is(last(growth, { since: kept }), proved);
  for (const form of [
    kept,
    JSON.stringify({ checkpoint: kept }),
    Buffer.from(encodeProofFile({ ...parts, checkpoint: kept })).toString(),
  ]) {
    assert.is(keptCheckpoint(Buffer.from(form)), kept);
  }
  assert.throws(() => keptCheckpoint(Buffer.from('a line\n')), /not of the form/);
  assert.match(last(growth), /^not proved: it shows how the log grew from 41 entries: give/);
  assert.match(last(growth, { since: sample.log.checkpoint.text }), /^not proved: it begins at 41 entries/);
  assert.match(last(bare, { since: kept }), /^not proved: it proves an entry/);
});

test('a rewritten log does not pass for the one whose checkpoint was kept', async () => {
  const storage = new MemoryStorage();
  const log = await Log.create({ storage, genesis: JSON.parse(genesis).body, key: keys.log, time: TIME });
  const proofs = new LogProofs(log, { store: new MemoryTileStore(), onWarning: () => {} });
  await log.append([started(999)], TIME, 1).durable;
  await fill(log, 80);
  const rewritten = await growthProof({ log, proofs }, keptSize);
  assert.match(
    last(rewritten, { since: kept }),
    /^not proved: this log did not grow out of the kept checkpoint/,
  );
  await proofs.close();
  await log.close();
});

test.run();
