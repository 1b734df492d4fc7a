/**
 * A process of its own, as it gives up root: `env-runs.ts RUNS` runs a task in turn on a prepared repository and on a bare one, and prints
 * `{warm, bare}`: milliseconds from the assignment to the first word of the command, the first pair left out.
 */
import { join } from 'node:path';
import type { RepositoryBundle } from '../../protocol/task.ts';
import { Member, type TestRepository, World } from '../../test/node/attempt/harness.ts';
import { dropRoot } from '../../test/unprivileged.ts';

dropRoot();
const runs = Number(process.argv[2]);
const FILES = 300;
const WORD = 'the command has begun';

const app = { name: 'app', version: '1.0.0', dependencies: { dep: 'file:dep' } };
const files: Record<string, string> = {
  '.npmrc': 'install-links=true\n',
  'package.json': JSON.stringify(app),
  'package-lock.json': JSON.stringify({
    ...app,
    lockfileVersion: 3,
    requires: true,
    packages: { '': app, 'node_modules/dep': { version: '1.2.3', resolved: 'file:dep' } },
  }),
  'dep/package.json': JSON.stringify({ name: 'dep', version: '1.2.3' }),
};
for (let n = 0; n < FILES; n++) {
  const lines = Array.from({ length: 60 }, (_, at) => `export const value${at} = ${n * 1000 + at};\n`);
  files[`src/part-${n % 24}/file-${n}.ts`] = lines.join('');
}

const world = await World.make();
/** Bundles of a repository, each resting on the one before. */
const chains = new Map<TestRepository, RepositoryBundle[]>();
try {
  const member = await Member.open(join(world.folder, 'member'), world.founder);
  try {
    const bare = world.repository('bare');
    await bare.commit(files);
    const prepared = world.repository('prepared');
    await prepared.commit({
      ...files,
      '.superfleet.yaml': 'prepare: [npm ci --no-audit --no-fund]\nneeds: {network: []}\n',
    });
    const spread = { warm: [] as number[], bare: [] as number[] };
    // The first task prepares, and fills the cache of each repository.
    for (const one of [prepared, bare]) await begun(member, one, 'first');
    for (let run = -1; run < runs; run++) {
      const warm = await begun(member, prepared, `warm ${run}`);
      const plain = await begun(member, bare, `bare ${run}`);
      if (run < 0) continue;
      spread.warm.push(warm);
      spread.bare.push(plain);
    }
    console.log(JSON.stringify(spread));
  } finally {
    await member.runner.close();
  }
} finally {
  await world.remove();
}

/** A task on a new commit, as a person would send it. */
async function begun(member: Member, repository: TestRepository, words: string): Promise<number> {
  const expected = repository.path.endsWith('bare') ? '!' : '';
  const known = repository.git('rev-parse', 'HEAD');
  const base = await repository.commit({ NOTES: `${words}\n` });
  const held = chains.get(repository) ?? [await world.bundle(repository, known)];
  const bundles = [...held, await world.bundle(repository, base, [known])];
  chains.set(repository, bundles);
  const line = `echo ${WORD}; test ${expected} -d node_modules/dep`;
  const spec = { kind: 'command' as const, argv: ['sh', '-c', line] };
  const assignment = await world.assignment(spec, { repository, base, bundles });
  let at: number | null = null;
  let output = '';
  const began = performance.now();
  const { result } = await member.run(assignment, undefined, {
    output: (bytes) => {
      output += Buffer.from(bytes).toString();
      if (at === null && output.includes(`\n${WORD}\n`)) at = performance.now();
    },
  });
  if (result.outcome !== 'succeeded' || at === null) throw new Error(`${result.detail}\n${output}`);
  return at - began;
}
