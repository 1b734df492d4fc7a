// limit: 480 s
// alone: thirty machines start
import { hostname } from 'node:os';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Client } from '../../node/api/client.ts';
import type { NodeObject } from '../../node/api/objects.ts';
import { LOOKED } from '../../node/cli/lifecycle.ts';
import { Fleet } from './fleet.ts';
import type { Daemon, Outcome } from './mesh.ts';

/** Thirty machines: real processes, one token. */
const AT_ONCE = 8;

const fleet = await Fleet.start({ hub: { slots: 0 } });
test.after(() => fleet.close());

const nodes = async (): Promise<NodeObject[]> =>
  (await fleet.client.get<{ items: NodeObject[] }>('/v1/nodes')).items;
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
  // Looked at once, by the first of them.
  return fleet.join(name, words, name === 'pc0' ? {} : { env: { [LOOKED]: '1' } });
}

test('an invite used 31 times: thirty machines are in, one is refused with what to do (exit 4)', async () => {
  const { token, ...made } = await fleet.json<{ token: string; uses: number; roles: string[] }>(
    'invite --uses 30 --expires 2h --label room=2 --role worker --owner lab'.split(' '),
  );
  assert.equal([made.uses, made.roles], [30, ['worker']]);
  const began = performance.now();
  const machines: Daemon[] = [];
  // As many as this one machine can start in one moment; each of thirty has processors of its own.
  const waiting = Array.from({ length: 31 }, (_, n) => `pc${n}`);
  const starts = Array.from({ length: AT_ONCE }, async () => {
    for (let name = waiting.shift(); name !== undefined; name = waiting.shift()) {
      const machine = arrives(name, [token]);
      machines.push(machine);
      await machine.until(
        () => (machine.exited || machine.lines.some(({ event }) => event === 'ready') ? true : undefined),
        'ready or refused',
      );
    }
  });
  await Promise.all(starts);
  console.log(`31 joins by one token, ${AT_ONCE} at a time: ${Math.round(performance.now() - began)} ms`);
  const refused = machines.filter((machine) => machine.exited);
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
  const said = machines.flatMap(({ lines }) => lines).filter(({ asked }) => asked === short);
  assert.is(said.length, 29, 'those that got another name were told so');
  const later = await fleet.node('pc31', ['join', token, '--port', '0', '--json']);
  assert.is(later.code, 4);
  await Promise.all(machines.map((machine) => machine.end('SIGTERM')));
});

test('a name already taken is refused by name, with what to do (exit 2); the same token then joins under another', async () => {
  const { token } = await fleet.json<{ token: string }>(['invite']);
  const taken = 'hub';
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
  const late = new Client({ dir: fleet.dir('late'), startHint: 'mesh-node start' });
  const own = async (): Promise<string> => (await late.get<NodeObject>('/v1/node')).name;
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
