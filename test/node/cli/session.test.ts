import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { typedHere } from '../../../node/cli/session.ts';

test('commands that the founder names are told as they are typed here', () => {
  const [hub, node] = [
    { bin: 'mesh-hub', typed: 'mesh-hub --dir /d' },
    { bin: 'mesh-node', typed: 'mesh-node --dir /$&' },
  ] as const;
  assert.is(typedHere(hub, 'mesh-hub task logs -f x'), 'mesh-hub --dir /d task logs -f x');
  assert.is(
    typedHere(hub, 'start a replica: mesh-node start; or mesh-hub durability 0'),
    'start a replica: mesh-node start; or mesh-hub --dir /d durability 0',
  );
  assert.is(typedHere(node, 'mesh-hub task answer x TEXT'), 'mesh-node --dir /$& task answer x TEXT');
  assert.is(
    typedHere(node, 'mesh-hub node eligible ada'),
    'mesh-hub node eligible ada',
    'only the operator has it',
  );
});

test.run();
