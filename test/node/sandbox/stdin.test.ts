/** A run that is spoken to while it runs. */
import { once } from 'node:events';
import { text } from 'node:stream/consumers';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { dropRoot } from '../../unprivileged.ts';
import { canRun } from '../attempt/harness.ts';
import { start } from './support.ts';

dropRoot();
if (canRun !== null) console.log(`skipped: ${canRun}`);
const it = canRun === null ? test : test.skip;
const sandbox = createSandbox();

it('what is written arrives as it is written, and its end ends the input; it is a pipe, by name too', async () => {
  const script = 'read line; echo "got $line"; cat; [ -p /dev/stdin ] && echo a pipe';
  const run = start(sandbox, ['sh', '-c', script], { stdin: 'pipe' });
  const said = text(run.stderr);
  run.stdin!.write('one\n');
  const [first] = (await once(run.stdout, 'data')) as [Buffer];
  assert.is(first.toString(), 'got one\n');
  const rest = text(run.stdout);
  run.stdin!.end('two\nthree\n');
  assert.equal([await rest, await said], ['two\nthree\na pipe\n', '']);
  assert.is((await run.ended).exitCode, 0);
});

it('one that reads nothing, and one that is gone, hold up nobody who writes', async () => {
  for (const argv of [['true'], ['sleep', '60']]) {
    const run = start(sandbox, argv, { stdin: 'pipe' });
    run.stdin!.write(Buffer.alloc(4 * 2 ** 20));
    if (argv[0] === 'sleep') run.kill();
    const { killedBy } = await run.ended;
    assert.is(killedBy, argv[0] === 'sleep' ? 'stopped' : null);
    if (!run.stdin!.closed) await once(run.stdin!, 'close');
    for (const stream of [run.stdout, run.stderr]) stream.destroy();
  }
});

it('a run that asks for no pipe has none', async () => {
  const run = start(sandbox, ['readlink', '/proc/self/fd/0']);
  assert.is(run.stdin, null);
  assert.is(await text(run.stdout), '/dev/null\n');
  await run.ended;
});

test.run();
