import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { issueCertificate, openCertificate } from '../../protocol/certificate.ts';
import { meshIdOfLine, parseGenesis } from '../../protocol/genesis.ts';
import { certificateOf, codeOf, genesis, keyOf, keys, mesh } from './samples.ts';

test('a certificate comes back as it was issued, and the same facts give the same bytes', () => {
  const one = certificateOf('executor', { roles: ['submitter', 'worker'], labels: { zone: 'b', arch: 'x' } });
  const again = certificateOf('executor', {
    roles: ['worker', 'submitter'],
    labels: { arch: 'x', zone: 'b' },
  });
  const signed = issueCertificate(one, keys.log);
  assert.equal(issueCertificate(again, keys.log), signed);
  assert.equal(openCertificate(signed, keys.log.publicKey, mesh), again);
});

test('a certificate of another mesh or by another key is refused', () => {
  const signed = issueCertificate(certificateOf('executor'), keys.log);
  assert.is(
    codeOf(() => openCertificate(signed, keys.log.publicKey, '0'.repeat(64))),
    'SF_NOT_PROVED',
  );
  assert.is(
    codeOf(() => openCertificate(signed, keys.stranger.publicKey, mesh)),
    'SF_NOT_PROVED',
  );
});

test('the mesh id is the leaf hash of the genesis line, which names the log key', () => {
  assert.equal(parseGenesis(genesis), {
    mesh,
    name: 'lab',
    founder: keys.founder.peer,
    logKey: keys.log.publicKey,
    recoveryKey: keyOf('recovery').publicKey,
  });
  assert.is.not(meshIdOfLine(genesis.replace('lab', 'lob')), mesh);
  for (const line of ['', '{}', `${genesis}\n`, genesis.replace('"index":0', '"index":1')]) {
    assert.is(
      codeOf(() => parseGenesis(line)),
      'SF_NOT_PROVED',
      line,
    );
  }
});

test.run();
