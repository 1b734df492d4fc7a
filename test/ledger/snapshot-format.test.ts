import { createHash } from 'node:crypto';
import { readdirSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canonicalJson, canonicalPieces } from '../../ledger/canonical-json.ts';
import { Log } from '../../ledger/log.ts';
import { restart } from '../../ledger/restart.ts';
import { decodeSnapshot } from '../../ledger/snapshot.ts';
import { FileSnapshotStore } from '../../ledger/snapshot-store-file.ts';
import { FileStorage } from '../../ledger/storage-file.ts';
import { fixtureSnapshot } from './snapshot-fixture.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/snapshot-1');
const NAME = '0000000000000006.snapshot';
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

test('the frozen snapshot of form 1 is read: what it says of the log, and who signs', () => {
  const { chain, place, body } = decodeFrozen();
  assert.is(chain.checkpoint!.size, 6);
  assert.is(chain.leadership!.epoch, 2);
  assert.is(chain.frontier.root().toString('hex'), body.root);
  assert.ok(place.segment > 0);
});

function decodeFrozen(): ReturnType<typeof decodeSnapshot> {
  return decodeSnapshot(readFileSync(join(FOLDER, NAME)));
}

test('a start takes it up, and the log’s own entry agrees', async () => {
  const storage = new FileStorage(FOLDER);
  const begun = await restart(storage, new FileSnapshotStore(FOLDER), (at) =>
    Log.open({ storage, key: null, ...at }),
  );
  assert.equal([begun.spared, begun.passedOver, begun.contradictions], [6, [], []]);
  assert.equal([begun.state.mesh.size, begun.state.mesh.paused], [7, true]);
  assert.is([...begun.state.members.byPeer.values()][0]!.owner, 'Élodie');
  await begun.log.close();
});

test('today the same log still gives the same bytes', async () => {
  const files = await fixtureSnapshot();
  assert.equal(files.map(({ name }) => name).sort(), readdirSync(FOLDER).sort());
  for (const { name, bytes } of files)
    assert.is(bytes.toString(), readFileSync(join(FOLDER, name), 'utf8'), name);
});

test('a file is what docs/ledger.md says: its digests can be worked out with nothing but SHA-256', () => {
  const lines = readFileSync(join(FOLDER, NAME), 'utf8').split('\n');
  assert.is(lines.pop(), '');
  const head = JSON.parse(lines[0]!) as { reducers: { digest: string }[] };
  const last = lines.pop()!;
  assert.equal(JSON.parse(last), { digest: sha256(`${lines.join('\n')}\n`) });
  assert.equal(
    lines.slice(1).map(sha256),
    head.reducers.map(({ digest }) => digest),
  );
});

test('a value has one canonical text, whole and in pieces', () => {
  const value = {
    b: [1, { z: null, a: 'é"\n' }, []],
    a: undefined,
    '': -0,
    '10': 1e21,
    '9': 0.1,
    é: {},
    e: true,
  };
  const text = '{"":0,"10":1e+21,"9":0.1,"b":[1,{"a":"é\\"\\n","z":null},[]],"e":true,"é":{}}';
  assert.is(canonicalJson(value), text);
  for (const depth of [0, 1, 2, 3, 9]) assert.is([...canonicalPieces(value, depth)].join(''), text);
  assert.is([...canonicalPieces([], 2)].join(''), '[]');
  assert.is([...canonicalPieces({}, 2)].join(''), '{}');
  assert.is([...canonicalPieces('x', 2)].join(''), '"x"');
});

test.run();
