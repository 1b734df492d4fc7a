import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readableLine } from '../../../node/daemon/log.ts';

const line = (fields: object): string =>
  readableLine(JSON.stringify({ time: new Date(2026, 0, 2, 3, 4, 5).getTime(), ...fields }));

test('a line for a person: time of day, how grave, the words, then code and whatever else was named', () => {
  assert.is(line({ level: 30, msg: 'the founder answers' }), '03:04:05 info  the founder answers');
  assert.is(
    line({ level: 40, code: 'SF_UNREACHABLE', msg: 'no founder: connection refused', hint: null }),
    '03:04:05 warn  no founder: connection refused (SF_UNREACHABLE)',
  );
  assert.is(
    line({ level: 50, msg: 'cut', segment: 's', offset: 3 }),
    '03:04:05 error cut (segment: s, offset: 3)',
  );
});

test('what others wrote into a line cannot steer the terminal', () => {
  const said = line({ level: 30, msg: 'a\u001b[2Jb\nc wants to join', name: '\u202e' });
  assert.match(said, /a\\x1b\[2Jb\\x0ac wants to join/);
  assert.not.match(said, /[\u0000-\u001f\u202e]/);
});

test.run();
