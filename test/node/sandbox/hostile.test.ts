// limit: 120 s
/**
 * Hostile tasks against the real sandbox, its limits watched by the node (as on a machine without cgroups). Started as
 * root, the file first drops to an unprivileged user; otherwise it runs as it is.
 */
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { dropPrivileges } from '../../../node/privileges.ts';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { kernel } from './hostile-kernel.ts';
import { life } from './hostile-life.ts';
import { reach } from './hostile-reach.ts';
import { resources } from './hostile-resources.ts';
import { wish } from './support.ts';

const sandbox = createSandbox();

if (process.getuid?.() === 0) {
  const asRoot = sandbox.start(wish(['true']), new AbortController().signal);
  const refusal: unknown = await asRoot.ended.catch((thrown: unknown) => thrown);
  test('started as root, nothing runs (promise 14)', () => {
    assert.is((refusal as { code?: string }).code, 'SF_NO_SANDBOX');
  });
}
await dropPrivileges();

reach(test, sandbox);
kernel(test, sandbox);
resources(test, sandbox);
life(test, sandbox);
test.run();
