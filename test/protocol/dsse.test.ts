import { sign, verify } from 'node:crypto';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { z } from 'zod';
import {
  encodeEnvelope,
  openEnvelope,
  parseDocument,
  parseEnvelope,
  preAuthEncoding,
  signEnvelope,
} from '../../protocol/dsse.ts';
import { publicKeyObject } from '../../protocol/keys.ts';
import { codeOf, keys } from './samples.ts';

const key = keys.executor;
const TYPE = 'http://example.com/HelloWorld';

test('the pre-authentication encoding is the one of the DSSE specification', () => {
  const pae = Buffer.from(preAuthEncoding(TYPE, Buffer.from('hello world'))).toString();
  assert.is(pae, 'DSSEv1 29 http://example.com/HelloWorld 11 hello world');
  assert.is(Buffer.from(preAuthEncoding('é', Buffer.from('ü'))).toString(), 'DSSEv1 2 é 2 ü');
});

test('what was signed comes back as the very bytes, and any other verifier agrees', () => {
  fc.assert(
    fc.property(fc.uint8Array({ maxLength: 300 }), (payload) => {
      const signed = parseEnvelope(encodeEnvelope(signEnvelope(TYPE, payload, key)));
      assert.equal(Uint8Array.from(openEnvelope(signed, TYPE, key.publicKey)), payload);
      const sig = Buffer.from(signed.signatures[0]!.sig, 'base64');
      assert.ok(verify(null, preAuthEncoding(TYPE, payload), publicKeyObject(key.publicKey), sig));
    }),
    { numRuns: 50 },
  );
});

test('another key, another type, another payload and a cut signature are each refused', () => {
  const signed = signEnvelope(TYPE, Buffer.from('{}'), key);
  const sig = signed.signatures[0]!.sig;
  const other = sign(null, Buffer.from('DSSEv1 '), key.privateKey).toString('base64');
  const open = (change: Partial<typeof signed>, type = TYPE, by = key) =>
    codeOf(() => openEnvelope({ ...signed, ...change }, type, by.publicKey));
  assert.is(open({}), null);
  assert.is(open({}, TYPE, keys.stranger), 'SF_NOT_PROVED');
  assert.is(open({}, 'text/plain'), 'SF_NOT_PROVED');
  assert.is(open({ payload: Buffer.from('[]').toString('base64') }), 'SF_NOT_PROVED');
  assert.is(open({ signatures: [{ keyid: key.peer, sig: other }] }), 'SF_NOT_PROVED');
  assert.is(open({ signatures: [{ keyid: keys.stranger.peer, sig }] }), 'SF_NOT_PROVED');
  assert.is(open({ signatures: [{ keyid: key.peer, sig: `${sig.slice(0, -4)}AA==` }] }), 'SF_NOT_PROVED');
});

test('a second spelling of the same base64 is refused', () => {
  const signed = signEnvelope(TYPE, Buffer.from('a'), key);
  assert.is(signed.payload, 'YQ==');
  for (const payload of ['YR==', 'YQ', 'YQ= =', ' YQ==', 'YQ==\n']) {
    assert.is(
      codeOf(() => openEnvelope({ ...signed, payload }, TYPE, key.publicKey)),
      'SF_NOT_PROVED',
      payload,
    );
  }
});

test('foreign text is bounded, must be JSON of the form agreed, and never throws anything else', () => {
  const good = encodeEnvelope(signEnvelope(TYPE, Buffer.from('x'), key));
  const two = JSON.parse(good);
  two.signatures.push(two.signatures[0]);
  for (const text of [
    '',
    'null',
    '[]',
    '{}',
    good.replace('{', '{"more":1,'),
    JSON.stringify(two),
    `${good} x`,
  ]) {
    assert.is(
      codeOf(() => parseEnvelope(text)),
      'SF_NOT_PROVED',
      text,
    );
  }
  assert.is(
    codeOf(() => parseEnvelope(good, 10)),
    'SF_NOT_PROVED',
  );
  assert.is(
    codeOf(() => parseEnvelope(Uint8Array.of(0xff, 0x7b, 0x7d))),
    'SF_NOT_PROVED',
  );
  fc.assert(
    fc.property(fc.oneof(fc.json(), fc.string()), (text) =>
      assert.is(
        codeOf(() => parseEnvelope(text)),
        'SF_NOT_PROVED',
      ),
    ),
  );
});

test('a document with a key twice, or spelled in a second way, is refused', () => {
  const schema = z.object({ a: z.number() });
  const parse = (text: string) => codeOf(() => parseDocument(Buffer.from(text), schema, 100, 'it'));
  assert.is(parse('{"a":1}'), null);
  for (const text of ['{"a":2,"a":1}', '{"a": 1}', '{"a":1.0}', '{"\\u0061":1}', '{"a":1}\n']) {
    assert.is(parse(text), 'SF_NOT_PROVED', text);
  }
});

test.run();
