import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { OwnTurns } from '../../node/turns.ts';

test('work of one name comes one after another in the order of its calls, also after one that failed', async () => {
  const turns = new OwnTurns();
  const said: string[] = [];
  let open = (): void => {};
  const gate = new Promise<void>((resolve) => {
    open = resolve;
  });
  const first = turns.inTurn('a', async () => {
    said.push('first begins');
    await gate;
    said.push('first ends');
    throw new Error('failed');
  });
  const second = turns.inTurn('a', async () => said.push('second'));
  await turns.inTurn('b', async () => said.push('another name'));
  assert.equal(said, ['first begins', 'another name']);
  open();
  await first.then(
    () => assert.unreachable('the first has failed'),
    (error: Error) => assert.is(error.message, 'failed'),
  );
  await second;
  assert.equal(said, ['first begins', 'another name', 'first ends', 'second']);
});

test('a name is over when all that waited for it is done, however it ended; at once where nobody has it', async () => {
  const turns = new OwnTurns();
  await turns.over('a');
  let done = 0;
  const failed = turns.inTurn('a', async () => {
    done += 1;
    throw new Error('failed');
  });
  const other = turns.inTurn('a', async () => {
    done += 1;
  });
  await turns.over('a');
  assert.is(done, 2);
  await Promise.allSettled([failed, other]);
});

test.run();
