import { createHash, createPrivateKey, createPublicKey, sign } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { keyId, makeCheckpoint, verifyCheckpoint } from '../../../ledger/lines/checkpoint.ts';
import { cosign, verifyCosignature } from '../../../ledger/lines/cosignature.ts';
import { publicKeyToBase64, signingKeyFromSeed } from '../../../protocol/keys.ts';
import { KEY, OTHER_KEY } from '../kit.ts';

const MESH = 'ab'.repeat(32);
const ROOT = createHash('sha256').update('root').digest('hex');
const NAME = 'replica.example/w1';
const TIME = 1_700_000_000;
const WITNESS = { name: NAME, publicKey: publicKeyToBase64(OTHER_KEY.publicKey) };
const note = makeCheckpoint({ origin: MESH, size: 42, root: ROOT }, KEY).text;
const cosigned = cosign(note, { name: NAME, key: OTHER_KEY, time: TIME });
const refusal = (code: string) => (error: { code?: string }) => error.code === code;

test('the line is that of tlog-cosignature, worked out step by step from the specification', () => {
  const seed = Buffer.alloc(32, 8);
  const der = Buffer.concat([Buffer.from('302e020100300506032b657004220420', 'hex'), seed]);
  const privateKey = createPrivateKey({ key: der, format: 'der', type: 'pkcs8' });
  const publicKey = createPublicKey(privateKey).export({ format: 'der', type: 'spki' }).subarray(-32);
  const rootLine = Buffer.from(ROOT, 'hex').toString('base64');
  const message = `cosignature/v1\ntime 1700000000\n${MESH}\n42\n${rootLine}\n`;
  const named = Buffer.concat([Buffer.from('replica.example/w1\n\x04', 'latin1'), publicKey]);
  const id = createHash('sha256').update(named).digest().subarray(0, 4);
  const seconds = Buffer.from('000000006553f100', 'hex');
  const line = Buffer.concat([id, seconds, sign(null, Buffer.from(message), privateKey)]);
  assert.is(cosigned, `${note}\u2014 replica.example/w1 ${line.toString('base64')}\n`);
});

/** The checkpoint of a public log with the published keys of its witnesses (witness-network.org, sigsum test policy). */
const PUBLISHED = `arche2025h1.staging.ct.transparency.dev
1432088532
U7WM79jrzyhGZ5/GUBTpM7NzwdyfFx61t3RovgcC4Ro=

— arche2025h1.staging.ct.transparency.dev zTM8sQAAAZ5W0WdjBAMARjBEAiBjW5IQf9pvsYLfQFX6hoGREPMHbdQ3urbllzalApkptQIgIpwtEroeW2BXaHAI4kJXFbon5Ch9MNL5zRNZ55lvGt0=
— arche2025h1.staging.ct.transparency.dev ui8GwCF1+kWqZrxGdhj4aX3gcw7XUlXQQabg/27lefwhUkzbC3NygNI75MdhL1bfTW9g8Ei59RA23oHP7Ry1k3ZFWwQ=
— transparency.dev/DEV:witness-little-garden 2AQqhwAAAABqEiEgzgFIqqhbUoDwjMWE6UP8nd8/KYTzwZ2rhIgcqoXHAwVkjZr4AscylP3v7sEodkRAErumC2q44vdgJY096st5BQ==
— witness1.smartit.nu/witness1 pIyCDwAAAABqEiEghIp82KWebrw7/oHQwlTAm3g2RKS4+eebl8eO0WH+/iEcxZ75W3u5hNI7TOQtmJbqmNWVuE0tgh0XwzdZsDsUAQ==
— remora.n621.de 2net5wAAAABqEiEgPlfF3V06o0Y+fHM+J5J9s27wgxxcOVSpZ/2g/KSiXCg9DEZI+aVCIobWX9sXTynk5XeU/zZ0WBxtqB0DrAWfBw==
— witness.stagemole.eu Z/euoAAAAABqEiEgw0i+7g2ENfDAWHmtRzCfKTHSDwYDJA2NmKeGi9Y8FtEyOUvVr+AJmIY/2TUFucgKi7lI7cUiOvKFYe/TmN9DAg==
`;
const VKEYS = [
  'transparency.dev/DEV:witness-little-garden+d8042a87+BCtusOxINQNUTN5Oj8HObRkh2yHf/MwYaGX4CPdiVEPM',
  'witness1.smartit.nu/witness1+a48c820f+BPSFWg9G6KPiO7QPryYO5Xq4oYJJ+kAvLKLSimDhoxMO',
  'remora.n621.de+da77ade7+BOvN63jn/bLvkieywe8R6UYAtVtNbZpXh34x7onlmtw2',
  'witness.stagemole.eu+67f7aea0+BEqSG3yu9YrmcM3BHvQYTxwFj3uSWakQepafafpUqklv',
];

/** name+id+base64(type ‖ key): the key itself may hold a plus. */
function fromVkey(vkey: string): { name: string; id: string; type: number; publicKey: string } {
  const [name, id] = vkey.split('+', 2);
  const bytes = Buffer.from(vkey.slice(`${name}+${id}+`.length), 'base64');
  return { name: name!, id: id!, type: bytes[0]!, publicKey: bytes.subarray(1).toString('base64') };
}

test('what four public witnesses signed under one checkpoint verifies, with their time', () => {
  for (const vkey of VKEYS) {
    const { name, id, type, publicKey } = fromVkey(vkey);
    assert.is(type, 4);
    assert.is(keyId(name, Buffer.from(publicKey, 'base64'), type).toString('hex'), id);
    const { checkpoint, time } = verifyCosignature(PUBLISHED, { name, publicKey });
    assert.is(checkpoint.size, 1_432_088_532);
    assert.is(time, 0x6a122120);
    const other = PUBLISHED.replace('1432088532', '1432088533');
    assert.throws(() => verifyCosignature(other, { name, publicKey }), refusal('SF_NOT_PROVED'));
  }
  // The log's own key, also published: the same note, the plain signature.
  const log = fromVkey(
    'arche2025h1.staging.ct.transparency.dev+ba2f06c0+AU0vHmlGCS/PdN8b2OaGmKprLI8HKM+dJ472xgFYh15f',
  );
  assert.is(verifyCheckpoint(PUBLISHED, { origin: log.name, publicKey: log.publicKey }).size, 1_432_088_532);
});

test('the log signature still holds beside it, and each is passed over by the other', () => {
  const by = { origin: MESH, publicKey: publicKeyToBase64(KEY.publicKey) };
  assert.is(verifyCheckpoint(cosigned, by).size, 42);
  assert.is(verifyCosignature(cosigned, WITNESS).time, TIME);
  assert.throws(() => verifyCosignature(note, WITNESS), refusal('SF_NOT_PROVED'));
  // One key, one name, two kinds of signature: a plain one is no cosignature.
  const own = { name: MESH, publicKey: by.publicKey };
  assert.throws(() => verifyCosignature(note, own), /not signed by this witness/);
});

test('of two cosignatures of one witness the newer counts, and both must hold', () => {
  const later = cosign(cosigned, { name: NAME, key: OTHER_KEY, time: TIME + 60 });
  assert.is(verifyCosignature(later, WITNESS).time, TIME + 60);
  const lines = later.split('\n');
  const first = lines.findIndex((line) => line.includes(NAME));
  const bytes = Buffer.from(lines[first]!.split(' ')[2]!, 'base64');
  bytes[20]! ^= 1;
  lines[first] = `— ${NAME} ${bytes.toString('base64')}`;
  assert.throws(() => verifyCosignature(lines.join('\n'), WITNESS), /does not hold/);
});

test('another key, another name and every single flipped bit are refused', () => {
  assert.throws(
    () => verifyCosignature(cosigned, { ...WITNESS, name: 'replica.example/w2' }),
    refusal('SF_NOT_PROVED'),
  );
  const other = publicKeyToBase64(signingKeyFromSeed(Buffer.alloc(32, 9)).publicKey);
  assert.throws(
    () => verifyCosignature(cosigned, { ...WITNESS, publicKey: other }),
    refusal('SF_NOT_PROVED'),
  );
  const signed = Buffer.from(cosigned);
  const logLine = { begin: signed.indexOf('\n\n') + 2, end: signed.indexOf(`— ${NAME}`) };
  for (let bit = 0; bit < signed.length * 8; bit += 1) {
    // The log's own line is not under the cosignature.
    if (bit >> 3 >= logLine.begin && bit >> 3 < logLine.end) continue;
    const flipped = Buffer.from(signed);
    flipped[bit >> 3]! ^= 1 << (bit & 7);
    assert.throws(
      () => verifyCosignature(flipped.toString('utf8'), WITNESS),
      refusal('SF_NOT_PROVED'),
      `bit ${bit}`,
    );
  }
});

test('a time that no clock shows is refused, whoever signed it', () => {
  for (const time of [-1, 0.5, 2 ** 53]) {
    assert.throws(() => cosign(note, { name: NAME, key: OTHER_KEY, time }), refusal('SF_USAGE'));
  }
  const body = note.slice(0, note.indexOf('\n\n') + 1);
  const seconds = Buffer.from('0020000000000000', 'hex');
  const message = `cosignature/v1\ntime ${2n ** 53n}\n${body}`;
  const line = Buffer.concat([
    keyId(NAME, OTHER_KEY.publicKey, 4),
    seconds,
    sign(null, Buffer.from(message), OTHER_KEY.privateKey),
  ]);
  const late = `${note}— ${NAME} ${line.toString('base64')}\n`;
  assert.throws(() => verifyCosignature(late, WITNESS), /impossible time/);
  const short = `${note}— ${NAME} ${line.subarray(0, -1).toString('base64')}\n`;
  assert.throws(() => verifyCosignature(short, WITNESS), /another length/);
});

test('a name that would break the line, or one signature too many, is refused before it is signed', () => {
  for (const name of ['', 'a b', 'a+b', 'a\nb', 'a\u0000']) {
    assert.throws(() => cosign(note, { name, key: OTHER_KEY, time: TIME }), refusal('SF_USAGE'), name);
  }
  let full = note;
  const more = (): void => {
    full = cosign(full, { name: NAME, key: OTHER_KEY, time: TIME });
  };
  assert.throws(() => {
    for (let n = 0; n < 100; n += 1) more();
  }, refusal('SF_USAGE'));
  assert.is(verifyCosignature(full, WITNESS).time, TIME);
});

test.run();
