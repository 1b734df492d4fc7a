import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { type Turn, Turns } from '../../../node/network/turns.ts';

const limits = { servedMax: 4, turnMs: 60_000, takeMs: 60_000 };

/** Asks for a turn, and notes in `order` when it came. */
function ask(turns: Turns, peer: string, order: string[]): Promise<Turn> {
  return Promise.resolve(turns.next(peer)).then((turn) => {
    assert.ok(turn, `${peer} was refused`);
    order.push(peer);
    return turn;
  });
}

test('a free turn goes to the peer that holds the fewest, whoever asked first', async () => {
  const turns = new Turns(limits);
  const order: string[] = [];
  const greedy = await Promise.all(Array.from({ length: 4 }, () => ask(turns, 'greedy', order)));
  const more = Array.from({ length: 4 }, () => ask(turns, 'greedy', order));
  const first = ask(turns, 'first', order);
  const second = ask(turns, 'second', order);
  order.length = 0;
  greedy[0]!.end();
  const one = await first;
  greedy[1]!.end();
  const two = await second;
  assert.equal(order, ['first', 'second']);
  for (const turn of [greedy[2]!, greedy[3]!, one, two]) turn.end();
  for (const turn of await Promise.all(more)) turn.end();
  assert.is(order.length, 6);
});

test('who sends for too long loses its turn while others wait, the longest first, and no more than are waited for', async () => {
  const turns = new Turns({ ...limits, takeMs: 50 });
  const lost: string[] = [];
  const held = ['a', 'b', 'c', 'd'].map((peer) => ({ peer, turn: turns.next(peer) as Turn }));
  for (const { peer, turn } of held) {
    // One still reads from its disk: that is not its peer's doing.
    if (peer === 'a') continue;
    turn.sending(() => {
      lost.push(peer);
      turn.end();
    });
  }
  const came = (await turns.next('e')) as Turn;
  assert.equal(lost, ['b']);
  came.end();
  for (const { turn } of held) turn.end();
  const all = Array.from({ length: 4 }, () => turns.next('f') as Turn);
  for (const turn of all) turn.end();
});

test('a turn that is ended twice makes no room for two', () => {
  const turns = new Turns({ ...limits, servedMax: 1 });
  const turn = turns.next('a') as Turn;
  turn.end();
  turn.end();
  const next = turns.next('a') as Turn;
  const none = turns.next('b');
  assert.instance(none, Promise);
  next.end();
  return (none as Promise<Turn>).then((last) => last.end());
});

test('who waits too long is told that there is none', async () => {
  const turns = new Turns({ ...limits, servedMax: 1, turnMs: 20 });
  const turn = turns.next('a') as Turn;
  assert.is(await turns.next('b'), null);
  turn.end();
  (turns.next('b') as Turn).end();
});

test.run();
