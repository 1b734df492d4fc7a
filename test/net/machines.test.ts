// limit: 240 s
import { hostname } from 'node:os';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { NodeObject } from '../../node/api/objects.ts';
import { Fleet } from './fleet.ts';
import type { Daemon, Outcome } from './mesh.ts';

/** Thirty machines: real processes, one token. */
const fleet = await Fleet.start({ hub: { slots: 0 } });
test.after(() => fleet.close());

const nodes = async (): Promise<NodeObject[]> =>
  (await fleet.json<{ items: NodeObject[] }>(['node', 'list'])).items;
const node = async (name: string): Promise<NodeObject | undefined> =>
  (await nodes()).find((one) => one.name === name);

function refusal(text: string): { code: string; message: string; hint: string | null } {
  const line = text.split('\n').find((one) => one.startsWith('{"error":'));
  assert.ok(line, `one JSON error, got: ${text}`);
  return (JSON.parse(line) as { error: { code: string; message: string; hint: string | null } }).error;
}

/** A machine that joins with the host's name, and takes no work. */
function arrives(name: string, words: string[]): Daemon {
  fleet.configure(name, { slots: 0 });
  return fleet.join(name, words);
}

test('an invite used 31 times at once: thirty machines are in, one is refused with what to do (exit 4)', async () => {
  const { token, ...made } = await fleet.json<{ token: string; uses: number; roles: string[] }>(
    'invite --uses 30 --expires 2h --label room=2 --role worker --owner lab'.split(' '),
  );
  assert.equal([made.uses, made.roles], [30, ['worker']]);
  const began = performance.now();
  const machines = Array.from({ length: 31 }, (_, n) => arrives(`pc${n}`, [token]));
  const outcomes = await Promise.all(
    machines.map(async (machine) => {
      await machine.until(
        () => (machine.exited || machine.lines.some(({ event }) => event === 'ready') ? true : undefined),
        'ready or refused',
      );
      return machine;
    }),
  );
  console.log(`31 joins by one token at once: ${Math.round(performance.now() - began)} ms`);
  const refused = outcomes.filter((machine) => machine.exited);
  assert.is(refused.length, 1);
  assert.is(await refused[0]!.ended(), 4);
  const error = refusal(refused[0]!.log);
  assert.is(error.code, 'SF_INVITE');
  assert.match(error.message, /used up/);
  assert.match(error.hint ?? '', /mesh-hub invite/);
  const members = (await nodes()).filter(({ owner }) => owner === 'lab');
  assert.is(members.length, 30);
  for (const { labels, roles } of members) assert.equal([labels.room, roles], ['2', ['worker']]);
  const short = hostname().split('.')[0]!;
  const names = members.map(({ name }) => name).sort();
  assert.equal(names, [short, ...Array.from({ length: 29 }, (_, n) => `${short}-${n + 2}`)].sort());
  const said = outcomes.flatMap(({ lines }) => lines).filter(({ asked }) => asked === short);
  assert.is(said.length, 29, 'those that got another name were told so');
  const later = await fleet.node('pc31', ['join', token, '--port', '0', '--json']);
  assert.is(later.code, 4);
  for (const machine of machines.slice(1)) await machine.end('SIGTERM');
  fleet.members.set('pc0', machines[0]!);
});

test('a name already taken is refused by name, with what to do (exit 2); the same token then joins under another', async () => {
  const { token } = await fleet.json<{ token: string }>(['invite']);
  const taken = (await nodes()).find(({ owner }) => owner === 'lab')!.name;
  fleet.configure('late', { slots: 0 });
  const words = ['join', token, '--port', '0', '--json', '--name'];
  const refused: Outcome = await fleet.node('late', [...words, taken]);
  assert.is(refused.code, 2, refused.stderr);
  const error = refusal(refused.stderr);
  assert.is(error.code, 'SF_EXISTS');
  assert.ok(error.message.includes(taken), error.message);
  assert.match(error.hint ?? '', /--name/);
  const joined = arrives('late', [token, '--name', 'late-1']);
  assert.is((await joined.event('ready')).name, 'late-1');
  fleet.members.set('late', joined);
});

test('a machine is renamed while it runs: it learns its name, keeps it over a restart, and the log says who did it', async () => {
  await fleet.json(['node', 'rename', 'late-1', 'lab-07']);
  const own = async (): Promise<string> =>
    (JSON.parse((await fleet.node('late', ['status', '--json'])).stdout) as NodeObject).name;
  await fleet.untilAsked(async () => (await own()) === 'lab-07', 'it knows its new name');
  const entry = await fleet.entry(({ type }) => type === 'member.renamed', 'the renaming');
  assert.is((entry.body.by as { kind: string }).kind, 'local');
  await fleet.daemon('late').end('SIGTERM');
  const again = await fleet.startMember('late');
  assert.is((await again.event('ready')).name, 'lab-07');
  const away = again;
  await away.end('SIGTERM');
  await fleet.json(['node', 'rename', 'lab-07', 'lab-08']);
  fleet.members.set('late', await fleet.startMember('late'));
  await fleet.untilAsked(async () => (await own()) === 'lab-08', 'renamed while away, it learns it');
  assert.is(await node('late-1'), undefined);
  const bad = await fleet.hub(['node', 'rename', 'lab-08', 'hub', '--json']);
  assert.is(bad.code, 2);
  assert.is(refusal(bad.stderr).code, 'SF_EXISTS');
});

test.run();
