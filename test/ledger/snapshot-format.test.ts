import { createHash } from 'node:crypto';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { canonicalJson, canonicalPieces } from '../../ledger/lines/canonical-json.ts';
import { Log } from '../../ledger/log/log.ts';
import { restart } from '../../ledger/log/restart.ts';
import { type Base, decodeBase } from '../../ledger/snapshots/snapshot.ts';
import { FileSnapshotStore } from '../../ledger/snapshots/snapshot-store-file.ts';
import { PLUGIN_REDUCERS } from '../../ledger/state/plugin-reducers.ts';
import { REDUCERS } from '../../ledger/state/state.ts';
import { FileStorage } from '../../ledger/storage/storage-file.ts';
import { fixtureSnapshot } from './snapshot-fixture.ts';

const FOLDER = join(import.meta.dirname, '../fixtures/snapshot-1');
const NAME = '0000000000000006.snapshot';
interface Kept {
  version: number;
}
const sha256 = (text: string): string => createHash('sha256').update(text).digest('hex');

test('the frozen snapshot of form 1 is read: what it says of the log, and who signs', () => {
  const { chain, place, body, state } = decodeFrozen();
  assert.is(chain.checkpoint!.size, 6);
  assert.is(chain.leadership!.epoch, 2);
  assert.is(chain.frontier.root().toString('hex'), body.root);
  assert.ok(place.segment > 0);
  assert.is(state, null, 'it was made before there were plugins, whose states only the log can give');
});

const decodeFrozen = (): Base => decodeBase(readFileSync(join(FOLDER, NAME)));

test('a start passes it over, replays the log, and the log’s own entry agrees', async () => {
  const storage = new FileStorage(FOLDER);
  const begun = await restart(storage, new FileSnapshotStore(FOLDER), (at) =>
    Log.open({ storage, key: null, ...at }),
  );
  assert.equal([begun.spared, begun.contradictions], [0, []]);
  assert.match(begun.passedOver.map(({ why }) => why).join(), /states are kept differently/);
  assert.equal([begun.state.mesh.size, begun.state.mesh.paused], [7, true]);
  assert.is([...begun.state.members.byPeer.values()][0]!.owner, 'Élodie');
  await begun.log.close();
});

test('today the same log still gives the same states, byte for byte; newer ones come after them', async () => {
  const made = (await fixtureSnapshot()).find(({ name }) => name === NAME)!;
  const [now, frozen] = [made.bytes, readFileSync(join(FOLDER, NAME))].map((bytes) => {
    const lines = bytes.toString().split('\n').slice(0, -2);
    return { head: JSON.parse(lines[0]!) as { reducers: Kept[] }, states: lines.slice(1) };
  });
  const { length } = frozen!.states;
  assert.equal(now!.states.slice(0, length), frozen!.states);
  const [kept, before] = [now!, frozen!].map(({ head }) => head.reducers.slice(0, length));
  // A version rises with the entries that its reducer heeds, whatever it makes of older ones.
  for (const [at, { version }] of kept!.entries()) assert.ok(version >= before![at]!.version);
  const reducers = kept!.map((one, at) => ({ ...one, version: before![at]!.version }));
  assert.equal({ ...now!.head, reducers }, frozen!.head);
  assert.is(now!.states.length, Object.keys(REDUCERS).length + PLUGIN_REDUCERS.length);
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
