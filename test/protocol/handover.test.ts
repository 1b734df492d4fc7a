import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { issueCertificate, openCertificateOf } from '../../protocol/certificate.ts';
import type { SuperfleetError } from '../../protocol/errors.ts';
import {
  followHandover,
  HANDOVER_TYPE,
  type HandoverBody,
  leadershipOf,
  newerLeadership,
  signerAt,
  signHandover,
} from '../../protocol/handover.ts';
import { publicKeyToBase64, type SigningKey } from '../../protocol/keys.ts';
import { encodeRoster, openRosterOf, signRoster } from '../../protocol/roster.ts';
import { verifyReceiptFile } from '../../protocol/verify-receipt.ts';
import { certificateOf, fileBytes, genesis, keyOf, keys, mesh } from './samples.ts';

const recovery = keyOf('recovery');
const [second, third] = [keyOf('second log'), keyOf('third log')];

interface Change {
  epoch?: number;
  index?: number;
  authority?: HandoverBody['authority'];
  logKey?: SigningKey;
}

/** Line of a handover at index 7, into epoch 2, unless something else is asked. */
function handover(key: SigningKey, change: Change = {}): string {
  const { epoch = 2, index = 7, authority = 'founder', logKey = second } = change;
  const said = {
    founder: keyOf(`founder of ${epoch}`).peer,
    logKey: publicKeyToBase64(logKey.publicKey),
    authority,
    size: index,
    root: 'a'.repeat(64),
  };
  const body = signHandover(mesh, epoch, said, key);
  return JSON.stringify({ index, epoch, time: 1_760_000_200_000, type: HANDOVER_TYPE, body });
}

const code = (act: () => unknown): string => {
  try {
    act();
  } catch (error) {
    return (error as SuperfleetError).code;
  }
  return 'none';
};

const line = handover(keys.log);

test('a handover counts by the log key before it or by the recovery key, and opens the next epoch only (promise 8)', () => {
  const led = leadershipOf(genesis, [line]);
  assert.equal([led.epoch, led.founder], [2, keyOf('founder of 2').peer]);
  assert.is(leadershipOf(genesis, [handover(recovery, { authority: 'recovery' })]).epoch, 2);
  const bad: [string, string][] = [
    ['a stranger', handover(keys.stranger)],
    ['the log key in the name of the recovery key', handover(keys.log, { authority: 'recovery' })],
    ['the recovery key in the name of the log key', handover(recovery)],
    ['an epoch skipped', handover(keys.log, { epoch: 3 })],
    ['the same epoch', handover(keys.log, { epoch: 1 })],
    ['the key of before', handover(keys.log, { logKey: keys.log })],
    ['another spelling', line.replace('{"index":7,', '{"index": 7,')],
    ['one figure changed', line.replace('1760000200000', '176000020000')],
  ];
  for (const [what, text] of bad.slice(0, -1)) {
    assert.ok(['SF_NOT_PROVED', 'SF_USAGE'].includes(code(() => leadershipOf(genesis, [text]))), what);
  }
  // Its time is informational, and under the root of the log only.
  assert.is(
    code(() => leadershipOf(genesis, [bad.at(-1)![1]])),
    'none',
  );
});

test('each epoch has its signer, and a fenced founder signs nothing that counts (promise 8)', () => {
  const planned = leadershipOf(genesis, [line, handover(second, { epoch: 3, index: 12, logKey: third })]);
  const signers = [7, 8, 9, 12, 13, 14].map((size) => Buffer.from(signerAt(planned, size)));
  const expected = [keys.log, keys.log, second, second, second, third].map((key) =>
    Buffer.from(key.publicKey),
  );
  assert.equal(signers, expected);
  const lost = leadershipOf(genesis, [handover(recovery, { authority: 'recovery' })]);
  assert.equal(Buffer.from(signerAt(lost, 8)), Buffer.from(recovery.publicKey));
  // The first key, after it was handed on.
  assert.is(
    code(() => followHandover(planned, handover(keys.log, { epoch: 4, index: 20, logKey: keyOf('x') }))),
    'SF_NOT_PROVED',
  );
});

test('the longer chain is followed; two ways into one epoch are an equivocation (promises 7 and 8)', () => {
  const none = leadershipOf(genesis);
  const one = leadershipOf(genesis, [line]);
  const rival = leadershipOf(genesis, [handover(recovery, { authority: 'recovery', logKey: third })]);
  assert.is(newerLeadership(none, one), one);
  assert.is(newerLeadership(one, none), one);
  assert.is(
    code(() => newerLeadership(one, rival)),
    'SF_EQUIVOCATION',
  );
});

test('a roster counts by the key of its epoch, a certificate by that of any', () => {
  const led = leadershipOf(genesis, [line]);
  const roster = (epoch: number, key: SigningKey): string =>
    encodeRoster(signRoster({ mesh, epoch, version: 9, members: [], revoked: [] }, key));
  assert.is(openRosterOf(led, roster(2, second)).epoch, 2);
  assert.is(openRosterOf(led, roster(1, keys.log)).epoch, 1);
  for (const forged of [
    roster(2, keys.log),
    roster(1, second),
    roster(2, keys.stranger),
    roster(3, second),
  ]) {
    assert.is(
      code(() => openRosterOf(led, forged)),
      'SF_NOT_PROVED',
    );
  }
  for (const key of [keys.log, second]) {
    assert.is(openCertificateOf(led, issueCertificate(certificateOf('executor'), key)).name, 'laptop');
  }
});

test('a receipt file is proved over a handover by the key of its last one', () => {
  const certificates = (key: SigningKey) => [
    issueCertificate(certificateOf('executor'), key),
    issueCertificate(certificateOf('verifier'), key),
  ];
  const good = fileBytes({ handovers: [line], certificates: certificates(second) });
  assert.ok(verifyReceiptFile(good, { mesh }).proved);
  const fenced = fileBytes({ handovers: [line], certificates: certificates(keys.log) });
  assert.not.ok(verifyReceiptFile(fenced, { mesh }).proved);
  const forged = fileBytes({ handovers: [handover(keys.stranger)], certificates: certificates(second) });
  assert.match(verifyReceiptFile(forged, { mesh }).why!, /not signed by the log key/);
});

test.run();
