import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { budget } from '../../../hub/plugins/budget.ts';
import type { Actor } from '../../../ledger/lines/events.ts';
import { type BudgetState, budgetReducer, dayBegin, dayOf } from '../../../ledger/state/budget.ts';
import { defaultBounds } from '../../../ledger/state/reducer.ts';
import { knownEntry } from '../../../ledger/state/state.ts';
import type { BudgetObject, StatusObject } from '../../../node/api/objects.ts';
import { type Assignment, leaseKey } from '../../../protocol/session.ts';
import { amountMax, costOf, type Usage, usage as usageSchema } from '../../../protocol/usage.ts';
import { CAPACITY, Fleet, resultOf, type TestMember } from '../core/fleet.ts';

/** A founder with budgets, on a virtual clock, and machines with a model. */
const fleetOf = (): Fleet => new Fleet({ plugins: [budget] });

function thinker(fleet: Fleet, name: string, slots = 2): TestMember {
  const member = fleet.join(name);
  fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, slots, models: ['qwen', 'llama'] } });
  return member;
}

const goal = (fleet: Fleet, tokens = 1_000, more: object = {}): string =>
  fleet.submit({ kind: 'code', code: { goal: 'mend it', tokens }, checks: [], ...more });

const set = (fleet: Fleet, body: object): BudgetObject =>
  fleet.ask<BudgetObject>({
    op: 'plugin.write',
    plugin: 'budget',
    verb: 'set',
    body: { name: null, currency: null, ...body },
  });
const show = (fleet: Fleet): BudgetObject =>
  fleet.ask<BudgetObject>({ op: 'plugin.read', plugin: 'budget', verb: 'show', body: null });
const own = (fleet: Fleet): BudgetState => fleet.core.state.plugins.get('budget') as BudgetState;
const count = (fleet: Fleet, type: string): number =>
  fleet.entries.filter((entry) => entry.type === type).length;

function used(promptTokens: number, generatedTokens = 0, more: Partial<Usage['rows'][number]> = {}): Usage {
  const row = { brain: 'ollama', place: 'local' as const, model: 'qwen', calls: 1, estimated: 0, ms: 1_500 };
  return { rows: [{ ...row, promptTokens, generatedTokens, ...more }] };
}

/** The attempt ends for want of budget. */
function exhausted(fleet: Fleet, member: TestMember, assignment: Assignment, usage: Usage): void {
  const words = {
    outcome: 'failed',
    reason: 'budget',
    fault: 'task',
    detail: 'no more',
    exitCode: null,
  } as const;
  const result = resultOf(member.peer, assignment, { ...words, commit: null, bundle: null, usage });
  member.running.delete(leaseKey(assignment));
  fleet.member(member, { type: 'finished', result });
}

test('without a limit nothing is kept, and what was taken is counted all the same', () => {
  const fleet = fleetOf();
  const ada = thinker(fleet, 'ada');
  goal(fleet);
  const assignment = fleet.running(ada);
  assert.is(assignment.allowance, undefined);
  fleet.finish(ada, assignment, { usage: used(70, 30) });
  assert.equal([count(fleet, 'budget.reserved'), count(fleet, 'budget.spent')], [0, 1]);
  const { today, limits } = show(fleet);
  assert.equal(limits, []);
  assert.equal(today.spent, { tokens: 100, seconds: 2, money: 0, calls: 1, estimated: 0 });
  assert.equal([today.models[0]!.name, today.members[0]!.name], ['qwen', 'ada']);
});

test('commands and verifications take nothing and are not held', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 0 });
  const ada = thinker(fleet, 'ada');
  const eve = thinker(fleet, 'eve');
  fleet.submit();
  const executor = ada.running.size > 0 ? ada : eve;
  const other = executor === ada ? eve : ada;
  fleet.finish(executor, fleet.running(executor));
  assert.is(fleet.running(other, 'verify').allowance, undefined);
  assert.is(count(fleet, 'budget.reserved'), 0);
});

test('what an attempt may take is kept for it, the rest is for others, and what is given back is there at once', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 2_500 });
  const ada = thinker(fleet, 'ada', 4);
  goal(fleet);
  goal(fleet);
  const third = goal(fleet);
  assert.is(ada.running.size, 2, 'the third would not have what it asks for');
  const [first] = [...ada.running.values()];
  assert.equal([first!.allowance!.tokens, first!.allowance!.money], [1_000, null]);
  const why = fleet.why(third);
  assert.is(why.wait, 'held');
  assert.match(why.reasons.join(), /2000 of its 2500 tokens are kept for attempts that run/);
  assert.equal(show(fleet).limits[0]!.left!.tokens, 500);
  fleet.finish(ada, first!, { usage: used(300, 100) });
  assert.is(ada.running.size, 2, 'of 2500 400 are spent and 1000 kept');
  assert.equal(show(fleet).limits[0]!.left!.tokens, 100);
});

test('a day that is used up holds goals, says until when and who can change it, and is logged once', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 1_000 });
  const ada = thinker(fleet, 'ada');
  const first = goal(fleet);
  fleet.finish(ada, fleet.running(ada), { usage: used(900, 150) });
  assert.is(fleet.task(first).state, 'delivered');
  const second = goal(fleet);
  fleet.advance(5_000);
  assert.is(ada.running.size, 0);
  const begins = new Date(dayBegin(dayOf(fleet.wall) + 1)).toISOString().slice(0, 10);
  const said = fleet.why(second).reasons.join();
  assert.match(
    said,
    new RegExp(`the budget of the day is used up: 1050 of 1000 tokens; it waits until ${begins}T00:00Z`),
  );
  assert.match(said, /mesh-hub budget set day raises it/);
  assert.is(count(fleet, 'budget.reached'), 1);
  const { needs } = fleet.ask<StatusObject>({ op: 'status' });
  assert.ok(
    needs.some(
      ({ what, command }) => /used up/.test(what) && command === 'mesh-hub budget set day --tokens N',
    ),
  );

  fleet.restart();
  fleet.connect(ada);
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, models: ['qwen'] } });
  fleet.advance(5_000);
  assert.equal(
    [ada.running.size, count(fleet, 'budget.reached')],
    [0, 1],
    'the count and its having been told outlast a restart',
  );
  set(fleet, { scope: 'day', tokens: 3_000 });
  assert.is(fleet.running(ada).task, second);
  assert.is(fleet.running(ada).allowance!.tokens, 1_000);
});

test('the next day begins with nothing taken', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 1_000 });
  const ada = thinker(fleet, 'ada');
  goal(fleet);
  fleet.finish(ada, fleet.running(ada), { usage: used(1_000) });
  const waiting = goal(fleet);
  assert.is(ada.running.size, 0);
  fleet.wall = dayBegin(dayOf(fleet.wall) + 1);
  fleet.advance(1_000);
  assert.is(fleet.running(ada).task, waiting);
  assert.is(show(fleet).today.spent.tokens, 0);
  assert.is(show(fleet).limits[0]!.left!.tokens, 0, 'all of it is kept for the one that runs');
});

test('an attempt that the day stops waits for the next, and costs no retry; one that its own bound stops fails', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 1_500 });
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet, 5_000);
  const assignment = fleet.running(ada);
  assert.is(assignment.allowance!.tokens, 1_500);
  exhausted(fleet, ada, assignment, { ...used(1_100), short: { model: null, of: 'tokens', needs: 600 } });
  assert.equal([fleet.task(id).state, fleet.task(id).retriesUsed], ['queued', 0]);
  assert.match(fleet.why(id).reasons.join(), /a call of about 600 tokens is due, and 400 are left of 1500/);
  set(fleet, { scope: 'day', tokens: 9_000 });
  exhausted(fleet, ada, fleet.running(ada), used(5_000));
  assert.equal([fleet.task(id).state, fleet.task(id).converged?.reason], ['failed', 'budget']);
});

test('a task that used up what each may take fails, whatever retries it has', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'session', tokens: 1_500 });
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet, 5_000, { retries: 3 });
  const usage = { ...used(1_200), short: { model: null, of: 'tokens' as const, needs: 500 } };
  exhausted(fleet, ada, fleet.running(ada), usage);
  assert.equal([fleet.task(id).state, fleet.task(id).converged?.reason], ['failed', 'budget']);
  assert.is(own(fleet).sessions.size, 0, 'nothing is kept of a task that has ended');
  const told = fleet.entries.filter(({ type }) => type === 'budget.reached');
  assert.is(told.length, 0, '300 are left, which are too few');
  const other = goal(fleet, 1_000);
  assert.is(fleet.running(ada).task, other, 'each task has its own');
});

test('that a task used up what each may take is logged before its end', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'session', tokens: 1_500 });
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet, 5_000);
  fleet.finish(ada, fleet.running(ada), { usage: used(1_600) });
  const types = fleet.entries.map(({ type }) => type);
  const [reached] = fleet.entries.filter(({ type }) => type === 'budget.reached');
  assert.is((reached!.body as { session: string }).session, id);
  assert.ok(types.indexOf('budget.reached') < types.indexOf('task.executed'));
});

test('a founder that died between the entries of an attempt’s end, and tells it again, counts it once', () => {
  const fleet = fleetOf();
  const ada = thinker(fleet, 'ada');
  goal(fleet);
  const assignment = fleet.running(ada);
  fleet.finish(ada, assignment, { usage: used(400) });
  const at = fleet.entries.findIndex(({ type }) => type === 'budget.spent');
  const state = budgetReducer.initial(defaultBounds);
  for (const entry of [fleet.entries[at]!, fleet.entries[at]!])
    budgetReducer.reduce(state, knownEntry(entry)!);
  assert.is(state.spent.tokens, 400);
});

test('what a member says of its need holds nothing by itself: the limit must be short by what is logged', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 10_000 });
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet, 20_000);
  exhausted(fleet, ada, fleet.running(ada), {
    rows: [],
    short: { model: null, of: 'tokens', needs: 2 ** 40 },
  });
  assert.equal([fleet.task(id).state, fleet.task(id).converged?.reason], ['failed', 'budget']);
});

test('a limit of a member holds for it alone, one of a model for goals that name it', () => {
  const fleet = fleetOf();
  thinker(fleet, 'ada');
  set(fleet, { scope: 'member', name: 'ada', tokens: 0 });
  set(fleet, { scope: 'model', name: 'qwen', tokens: 0 });
  const id = goal(fleet);
  assert.match(
    fleet.why(id).members.find(({ name }) => name === 'ada')!.why,
    /the day's budget of ada is used up: 0 of 0/,
  );
  const eve = thinker(fleet, 'eve');
  assert.is(fleet.running(eve).task, id);
  assert.is(fleet.running(eve).allowance!.models.qwen!.tokens, 0);
  const named = goal(fleet, 1_000, { model: 'qwen' });
  const line = fleet.why(named).members.find(({ name }) => name === 'eve');
  assert.match(line!.why, /budget of the model qwen is used up/);
  goal(fleet, 1_000, { model: 'llama' });
  assert.is(eve.running.size, 2);
});

test('what a member says on the way counts where its attempt is cancelled or lost; a late word does not count twice', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 2_000 });
  const ada = thinker(fleet, 'ada');
  const id = goal(fleet);
  const { task, attempt, epoch } = fleet.running(ada);
  fleet.member(ada, {
    type: 'progress',
    lease: { task, attempt, epoch },
    phase: 'run',
    logBytes: 0,
    usage: used(400),
  });
  fleet.ask({ op: 'task.stop', task: id });
  assert.equal([show(fleet).today.spent.tokens, own(fleet).reserved.size], [400, 0]);
  const replay = budgetReducer.load(structuredClone(budgetReducer.save(own(fleet))));
  assert.equal(budgetReducer.save(replay), budgetReducer.save(own(fleet)));
});

test('only an operator sets; a currency is one; a limit that is as it was is not logged', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada', { roles: ['worker', 'submitter', 'viewer'] });
  const by = { kind: 'peer', peer: ada.peer } as const;
  const write = (body: object) => ({ op: 'plugin.write', plugin: 'budget', verb: 'set', body }) as const;
  assert.is(fleet.refusal(write({ scope: 'day', tokens: 5 }), by), 'SF_REFUSED');
  assert.is(fleet.refusal(write({ scope: 'day', tokens: -5 })), 'SF_USAGE');
  assert.is(fleet.refusal(write({ scope: 'day', money: 5 })), 'SF_USAGE', 'in what currency?');
  assert.is(fleet.refusal(write({ scope: 'member', name: 'nobody', tokens: 5 })), 'SF_NOT_FOUND');
  assert.is(fleet.refusal(write({ scope: 'day', name: 'x', tokens: 5 })), 'SF_USAGE');
  set(fleet, { scope: 'day', tokens: 5, money: 7, currency: 'EUR' });
  set(fleet, { scope: 'day', tokens: 5 });
  assert.is(count(fleet, 'budget.set'), 1);
  assert.is(fleet.refusal(write({ scope: 'session', money: 5, currency: 'USD' })), 'SF_CONFLICT');
  const after = set(fleet, { scope: 'day', tokens: null });
  assert.equal([after.currency, after.limits[0]!.limit], ['EUR', { tokens: null, seconds: null, money: 7 }]);
  assert.equal(set(fleet, { scope: 'day', money: null }).limits, []);
  assert.is(set(fleet, { scope: 'session', money: 5, currency: 'USD' }).currency, 'USD');
});

test('a limit set below what is spent, raised, and set again is told each time, once', () => {
  const fleet = fleetOf();
  const ada = thinker(fleet, 'ada');
  goal(fleet);
  fleet.finish(ada, fleet.running(ada), { usage: used(500) });
  for (const [tokens, reached] of [
    [400, 1],
    [900, 1],
    [400, 2],
    [300, 3],
  ] as const) {
    set(fleet, { scope: 'day', tokens });
    fleet.advance(2_000);
    assert.is(count(fleet, 'budget.reached'), reached, `${tokens}`);
  }
  assert.equal(
    fleet.ask<StatusObject>({ op: 'status' }).risks.filter((risk) => /plugin/.test(risk)),
    [],
  );
});

/** What a model in a cloud costs: 3 and 15 for a million tokens. */
const priced = (fleet: Fleet): void => {
  const body = { model: 'big-1', price: { in: 3_000_000, out: 15_000_000 }, currency: 'EUR' };
  fleet.ask({ op: 'plugin.write', plugin: 'budget', verb: 'price', body });
};
const paid = (fleet: Fleet, tokens: number): string =>
  fleet.submit({ kind: 'code', code: { goal: 'mend it', tokens, cloud: true }, checks: [] });

test('money and prices go with goals that say so alone, and no more money than such a goal can cost', () => {
  const fleet = fleetOf();
  priced(fleet);
  set(fleet, { scope: 'day', money: 1_000_000, currency: 'EUR' });
  const ada = thinker(fleet, 'ada', 4);
  goal(fleet);
  assert.equal([fleet.running(ada).allowance!.money, fleet.running(ada).allowance!.prices], [null, {}]);
  const id = paid(fleet, 10_000);
  const { allowance } = [...ada.running.values()].find(({ task }) => task === id)!;
  assert.equal(allowance!.money, 180_000, '10,000 tokens, read and written');
  assert.equal(allowance!.prices, { 'big-1': { in: 3_000_000, out: 15_000_000 } });
  assert.is(show(fleet).limits[0]!.reserved!.money, 180_000);
});

test('money is counted for clouds alone; a goal that it stopped waits where it was, and others go on without a cloud', () => {
  const fleet = fleetOf();
  priced(fleet);
  set(fleet, { scope: 'day', money: 10_000, currency: 'EUR' });
  const ada = thinker(fleet, 'ada');
  const id = paid(fleet, 10_000);
  assert.is(fleet.running(ada).allowance!.money, 10_000);
  const cloud = { ...used(2_000, 200, { place: 'cloud', model: 'big-1' }) };
  exhausted(fleet, ada, fleet.running(ada), { ...cloud, short: { model: null, of: 'money', needs: 6_000 } });
  assert.is(show(fleet).today.spent.money, 9_000);
  assert.equal([fleet.task(id).state, fleet.task(id).retriesUsed], ['queued', 0]);
  assert.match(fleet.why(id).reasons.join(), /a call of about 6000 money is due, and 1000 are left of 10000/);
  const free = goal(fleet);
  assert.is(fleet.running(ada).task, free, 'without a cloud');
  fleet.finish(ada, fleet.running(ada));
  set(fleet, { scope: 'day', money: 20_000 });
  assert.is(fleet.running(ada).task, id);
});

test('of an attempt that was lost the money stays kept until the day ends, and nothing else', () => {
  const fleet = fleetOf();
  priced(fleet);
  set(fleet, { scope: 'day', tokens: 50_000, money: 100_000, currency: 'EUR' });
  const ada = thinker(fleet, 'ada');
  paid(fleet, 1_000);
  fleet.disconnect(ada);
  fleet.advance(60_000);
  const [limit] = show(fleet).limits;
  assert.equal([limit!.reserved!.tokens, limit!.reserved!.money], [0, 18_000]);
  assert.is(show(fleet).today.lost, 1, 'what it took is not known, and said to be so');
  fleet.wall = dayBegin(dayOf(fleet.wall) + 1);
  fleet.advance(1_000);
  assert.is(show(fleet).limits[0]!.reserved!.money, 0);
  assert.is(show(fleet).today.lost, 0);
});

test('a machine without a model takes goals that may be paid for, where its owner has a cloud', () => {
  const fleet = fleetOf();
  const ada = fleet.join('ada');
  fleet.member(ada, { type: 'capacity', capacity: { ...CAPACITY, brains: ['cloud'] } });
  const free = goal(fleet);
  assert.match(fleet.why(free).members.find(({ name }) => name === 'ada')!.why, /offers no model/);
  const id = paid(fleet, 10_000);
  assert.is(fleet.running(ada).task, id);
});

test('costs are whole millionths, rounded up, and exact above what a double holds', () => {
  const price = { in: 3_000_000, out: 15_000_000 };
  assert.equal([costOf(price, 1, 0), costOf(price, 1_000_000, 0), costOf(price, 0, 1)], [3, 3_000_000, 15]);
  assert.is(costOf({ in: 1, out: 0 }, 1, 0), 1);
  assert.is(costOf({ in: 2 ** 46, out: 2 ** 46 }, 2 ** 46, 2 ** 46), 2 ** 46);
  assert.not.ok(usageSchema.safeParse({ rows: Array(17).fill(used(1).rows[0]) }).success);
});

/** Numbers in [0, 1) from a seed. */
function seeded(seed: number): () => number {
  let state = seed;
  return () => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return state / 2 ** 32;
  };
}

test('300 days of several machines: what is spent never passes a limit by more than one answer of each attempt that ran', () => {
  for (let seed = 1; seed <= 300; seed += 1) {
    const random = seeded(seed);
    const upTo = (max: number): number => Math.floor(random() * max);
    const fleet = fleetOf();
    const day = 1_000 + upTo(5_000);
    const model = 500 + upTo(3_000);
    set(fleet, { scope: 'day', tokens: day });
    set(fleet, { scope: 'model', name: 'qwen', tokens: model });
    const members = ['ada', 'eve', 'kim'].map((name) => thinker(fleet, name, 2));
    let over = 0;
    for (let round = 0; round < 12; round += 1) {
      goal(fleet, 200 + upTo(2_000));
      for (const member of members) {
        for (const assignment of [...member.running.values()]) {
          if (random() < 0.4) continue;
          // An honest member: prompts fit into what it may take, the last answer is as long as it is.
          const { tokens, models } = assignment.allowance!;
          const name = random() < 0.5 ? 'qwen' : 'llama';
          const most = Math.min(tokens!, name === 'qwen' ? models.qwen!.tokens! : tokens!);
          const answer = upTo(50);
          over += answer;
          const usage = used(upTo(most + 1), answer, { model: name });
          if (random() < 0.2)
            fleet.member(member, { type: 'progress', lease: assignment, phase: 'run', logBytes: 0, usage });
          if (random() < 0.2) {
            fleet.ask({ op: 'task.stop', task: assignment.task });
            fleet.gone(member, assignment);
          } else fleet.finish(member, assignment, { usage });
        }
      }
      if (random() < 0.2) {
        fleet.restart();
        for (const member of members) fleet.connect(member);
        for (const member of members)
          fleet.member(member, { type: 'capacity', capacity: { ...CAPACITY, slots: 2, models: ['qwen'] } });
      }
      const state = own(fleet);
      const kept = [...state.reserved.values()].reduce((sum, { tokens }) => sum + (tokens ?? 0), 0);
      assert.ok(
        state.spent.tokens + kept <= day + over,
        `seed ${seed}: ${state.spent.tokens} + ${kept} of ${day}`,
      );
      assert.ok((state.models.get('qwen')?.tokens ?? 0) <= model + over, `seed ${seed}: model`);
      assert.ok(state.reserved.size <= 6);
    }
    assert.equal(
      fleet.ask<StatusObject>({ op: 'status' }).risks.filter((risk) => /plugin/.test(risk)),
      [],
    );
  }
});

test('a member that lies without measure uses up the day, and neither stops the plugin nor the mesh', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 1_000 });
  set(fleet, { scope: 'session', tokens: 1_000 });
  const ada = thinker(fleet, 'ada');
  goal(fleet);
  const most = amountMax;
  const lie = used(most, most, { calls: most, estimated: most, ms: most, place: 'cloud' }).rows[0]!;
  fleet.finish(ada, fleet.running(ada), { usage: { rows: Array.from({ length: 16 }, () => lie) } });
  assert.is(show(fleet).today.spent.tokens, most);
  assert.is(count(fleet, 'budget.reached'), 2, 'of the day and of the task');
  const waiting = goal(fleet);
  assert.match(fleet.why(waiting).reasons.join(), /the budget of the day is used up/);
  // What was said stands in the log: the founder comes back with it, and the operator can still let goals go on.
  fleet.restart();
  fleet.connect(ada);
  set(fleet, { scope: 'day', tokens: null });
  fleet.advance(20_000);
  assert.is(fleet.running(ada).task, waiting);
});

test('however many models a member makes up, one with a limit is counted', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'model', name: 'qwen', tokens: 1_000 });
  const ada = thinker(fleet, 'ada');
  const [row] = used(1).rows;
  for (let at = 0; at < 4_100; at += 16) {
    goal(fleet, 10, { model: 'llama' });
    const rows = Array.from({ length: 16 }, (_, more) => ({ ...row!, model: `made-up-${at + more}` }));
    fleet.finish(ada, fleet.running(ada), { usage: { rows } });
  }
  goal(fleet, 10, { model: 'qwen' });
  fleet.finish(ada, fleet.running(ada), { usage: used(2_000) });
  assert.match(
    fleet.why(goal(fleet, 10, { model: 'qwen' })).reasons.join(),
    /budget of the model qwen is used up/,
  );
});

test('what a task took so far is told to who may see the task', () => {
  const fleet = fleetOf();
  set(fleet, { scope: 'day', tokens: 1_500 });
  const ada = thinker(fleet, 'ada');
  const { peer } = fleet.join('sam', { roles: ['submitter'] });
  const id = goal(fleet);
  exhausted(fleet, ada, fleet.running(ada), {
    ...used(1_400),
    short: { model: null, of: 'tokens', needs: 200 },
  });
  const shown = (by?: Actor): string[] =>
    fleet
      .ask<BudgetObject>({ op: 'plugin.read', plugin: 'budget', verb: 'show', body: null }, by)
      .tasks.map(({ task }) => task);
  assert.is(fleet.task(id).state, 'queued');
  assert.equal([shown(), shown({ kind: 'peer', peer })], [[id], []]);
});

test.run();
