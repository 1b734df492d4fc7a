/** Folders of the owner's that every run sees. */
import { chmodSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createSandbox } from '../../../node/sandbox/bubblewrap.ts';
import { probe } from '../../../node/sandbox/probe.ts';
import { dropRoot } from '../../unprivileged.ts';
import { Folder, run } from './support.ts';

dropRoot();
const { works, lacks } = await probe(createSandbox());
if (!works) console.log(`skipped, there is no sandbox here: ${lacks.map(({ what }) => what).join('; ')}`);
const real = works ? test : test.skip;

function program(folder: string, name: string, says: string): void {
  mkdirSync(folder, { recursive: true });
  writeFileSync(join(folder, name), `#!/bin/sh\necho ${says}\n`);
  chmodSync(join(folder, name), 0o755);
}

real(
  'programs of a toolchain are found behind those of the system, and nothing of it is written',
  async () => {
    using folder = new Folder('toolchains');
    using workspace = new Folder('workspace');
    program(join(folder.path, 'bin'), 'a-tool', 'one');
    program(join(folder.path, 'inner/bin'), 'b-tool', 'two');
    program(join(folder.path, 'bin'), 'true', 'not the true one');
    program(join(folder.path, 'bin'), 'prlimit', 'no limits');
    const sandbox = createSandbox({ readOnly: [folder.path, '/opt/not-there'] });
    const line = `a-tool; b-tool; sh -c true; command -v true; ulimit -u; ! touch ${folder.path}/x 2>/dev/null && echo kept`;
    const { out, err } = await run(sandbox, ['bash', '-c', line], { workspace: workspace.path });
    const [one, two, found, processes, kept] = out.trim().split('\n');
    assert.equal([one, two, kept], ['one', 'two', 'kept'], err);
    assert.ok(found === 'true' || found?.startsWith('/usr/') || found?.startsWith('/bin/'), found);
    assert.match(processes ?? '', /^\d+$/);
    const other = await run(createSandbox(), ['test', '-e', folder.path], { workspace: workspace.path });
    assert.is(other.exitCode, 1);
  },
);

test.run();
