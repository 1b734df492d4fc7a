import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../../ledger/lines/entry.ts';
import { resolveMember } from '../../../ledger/state/members.ts';
import { bundleChain } from '../../../ledger/state/repositories.ts';
import { initialState, loadState, replay, type SavedState, saveState } from '../../../ledger/state/state.ts';
import { keptEnded } from '../../../ledger/state/task-set.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { hex, peerOf } from '../../hub/core/fleet.ts';
import { simulatedLog } from '../../sim/run.ts';
import { replayAll } from '../archived.ts';
import { BY, Entries } from './entries.ts';

const throughJson = (saved: SavedState): SavedState => JSON.parse(JSON.stringify(saved)) as SavedState;
const damaged = (error: unknown): boolean =>
  error instanceof SuperfleetError && error.code === 'SF_LOG_DAMAGED';

test('replay(all) equals replay(prefix), saved as JSON and loaded, with the rest replayed on it (promise 9)', () => {
  fc.assert(
    fc.property(
      fc.integer({ min: 1, max: 60 }),
      fc.double({ min: 0, max: 1, noNaN: true }),
      (seed, share) => {
        const entries = simulatedLog(seed);
        const cut = Math.floor(share * entries.length);
        const prefix = saveState(replay(entries.slice(0, cut)));
        const loaded = loadState(throughJson(prefix));
        const resumed = saveState(replay(entries.slice(cut), loaded!));
        assert.is(JSON.stringify(resumed), JSON.stringify(saveState(replay(entries))));
      },
    ),
    { numRuns: 40 },
  );
});

/** Ids in the order in which their tasks ended. */
const endings = (entries: Entry[]): string[] =>
  entries.flatMap(({ type, body }) => (type === 'task.converged' ? [(body as { task: string }).task] : []));

const anyLog = fc.integer({ min: 1, max: 60 });
const anyBound = fc.integer({ min: 1, max: 6 });

test('a state that keeps few tasks is that which keeps all, but for those that ended before the newest', () => {
  fc.assert(
    fc.property(anyLog, anyBound, (seed, endedTasks) => {
      const entries = simulatedLog(seed);
      const few = replay(entries, initialState({ endedTasks }));
      const all = replayAll(entries);
      const newest = endings(entries).slice(-endedTasks);
      const kept = [...all.tasks.byId.values()].filter(
        ({ id }) => all.tasks.open.has(id) || newest.includes(id),
      );
      assert.equal([...few.tasks.byId.values()], kept);
      assert.equal([...few.tasks.byNumber.values()], kept);
      assert.equal(keptEnded(few.tasks), newest);
      assert.equal(
        [few.tasks.open, few.tasks.blame, few.tasks.count],
        [all.tasks.open, all.tasks.blame, all.tasks.count],
      );
      const { tasks: _, ...others } = saveState(few);
      const { tasks: __, ...expected } = saveState(all);
      assert.equal(others, expected);
    }),
    { numRuns: 40 },
  );
});

test('a state that keeps few tasks goes on from what was saved of it as if it had not stopped (promise 9)', () => {
  fc.assert(
    fc.property(anyLog, anyBound, fc.double({ min: 0, max: 1, noNaN: true }), (seed, endedTasks, share) => {
      const entries = simulatedLog(seed);
      const cut = Math.floor(share * entries.length);
      const bounds = { endedTasks };
      const prefix = saveState(replay(entries.slice(0, cut), initialState(bounds)));
      const loaded = loadState(throughJson(prefix), bounds);
      const resumed = replay(entries.slice(cut), loaded!);
      const whole = replay(entries, initialState(bounds));
      assert.is(JSON.stringify(saveState(resumed)), JSON.stringify(saveState(whole)));
      assert.equal(resumed.tasks, whole.tasks);
    }),
    { numRuns: 40 },
  );
});

test('a state that was kept under other bounds is not loaded', () => {
  const saved = throughJson(saveState(initialState({ endedTasks: 3 })));
  assert.is(loadState(saved), null);
  assert.is(loadState(saved, { endedTasks: 4 }), null);
  assert.is(loadState(saved, { endedTasks: 3 })?.tasks.endedMax, 3);
});

test('a saved state of another version is not loaded', () => {
  const saved = throughJson(saveState(initialState()));
  saved.tasks!.version += 1;
  assert.is(loadState(saved), null);
});

test('entries of an unknown type are passed over', () => {
  const entries = new Entries().admit('ada');
  entries.all.push({ index: 2, epoch: 1, time: 2000, type: 'moon.rose', body: { full: true } });
  assert.is(replay(entries.all).mesh.size, 3);
});

test('an entry out of place, or with a body that is none, stops the replay', () => {
  const [genesis, admitted] = new Entries().admit('ada').all;
  assert.throws(() => replay([admitted!]), damaged);
  assert.throws(() => replay([genesis!, { ...admitted!, index: 2 }]), damaged);
  assert.throws(() => replay([genesis!, { ...admitted!, time: 1 }]), damaged);
  assert.throws(() => replay([genesis!, { ...admitted!, body: {} }]), damaged);
});

test('names are unique among members, and free again when one leaves', () => {
  const entries = new Entries().admit('ada');
  assert.throws(() => replay(new Entries().admit('ada').admit('ada', peerOf('other')).all), /belongs to/);
  entries.add({ type: 'member.left', body: { peer: peerOf('ada'), by: BY } }).admit('ada', peerOf('other'));
  assert.is(resolveMember(replay(entries.all).members, 'ada')?.peer, peerOf('other'));
});

test('a name that every object has is a name like another', () => {
  const { members } = replay(new Entries().admit('ada').all);
  assert.is(resolveMember(members, 'constructor'), null);
  assert.is(
    resolveMember(replay(new Entries().admit('constructor').all).members, 'constructor')?.name,
    'constructor',
  );
});

test('a revoked key is never admitted again', () => {
  const entries = new Entries().admit('ada');
  entries.add({ type: 'member.revoked', body: { peer: peerOf('ada'), reason: null, by: BY } }).admit('ada');
  assert.throws(() => replay(entries.all), /was revoked/);
});

test('an invite is gone when its uses are spent, and swept when it has expired', () => {
  const entries = new Entries();
  const invite = (name: string, uses: number, expiresAt: number): unknown =>
    entries.add({
      type: 'invite.created',
      body: { invite: hex(name), expiresAt, uses, roles: [], labels: {}, owner: null, by: BY },
    });
  const use = (name: string, who: string): unknown =>
    entries.add({
      type: 'member.admitted',
      body: {
        peer: peerOf(who),
        name: who,
        owner: 'olga',
        roles: [],
        labels: {},
        via: { kind: 'invite', invite: hex(name) },
        by: BY,
      },
    });
  invite('two', 2, 9000);
  invite('old', 1, 1002);
  use('two', 'ada');
  assert.is(replay(entries.all).invites.get(hex('two'))?.usesLeft, 1);
  use('two', 'bob');
  invite('new', 1, 9000);
  assert.equal([...replay(entries.all).invites.keys()], [hex('new')]);
});

test('bundles to a commit are listed oldest first, each once', () => {
  const entries = new Entries();
  const commit = (name: string): string => hex(name).slice(0, 40);
  const bundle = (name: string, ...prerequisites: string[]): void => {
    const spec = taskSpec.parse({ kind: 'command', argv: ['true'] });
    const task = `aaaaaaaaaaa${name}`;
    const held = {
      commit: commit(name),
      bundle: hex(`blob ${name}`),
      prerequisites: prerequisites.map(commit),
    };
    entries.add({
      type: 'task.submitted',
      body: { task, correlation: task, spec, bundle: held, rerunOf: null, by: BY },
    });
  };
  bundle('a');
  bundle('b', 'a');
  bundle('c', 'a');
  bundle('d', 'b', 'c');
  const { repositories } = replay(entries.all);
  const chain = bundleChain(repositories, commit('d'), 512)?.map((one) => one.commit) ?? [];
  assert.equal([...chain].sort(), ['a', 'b', 'c', 'd'].map(commit).sort());
  assert.ok(chain.indexOf(commit('a')) === 0 && chain.indexOf(commit('d')) === 3);
  assert.is(bundleChain(repositories, commit('d'), 3), null);
  assert.is(bundleChain(repositories, commit('x'), 512), null);
  bundle('e', 'x');
  assert.throws(() => replay(entries.all), /prerequisite/);
});

test.run();
