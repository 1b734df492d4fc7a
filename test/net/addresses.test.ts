// limit: 120 s
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { lan } from './hosts.ts';
import { isRoot, Mesh, type Outcome } from './mesh.ts';

/** Two meshes on one LAN, and a machine that is to join one of them. */
const NAMES = {
  two: 'two founders on one LAN: a join without a token lists both by name and id, and asks for --mesh (exit 2)',
  one: 'with --mesh the one meant is asked',
  approval: 'an address of another mesh, with --mesh: both meshes are named (exit 3)',
  token:
    'an address of another mesh, with a token: both meshes are named (exit 3), and the token is still good',
  start: 'an address of another mesh, at a start: the log names both, and the machine goes on trying',
  none: 'an address where no founder is: said so (exit 3)',
};

interface Refusal {
  code: string;
  message: string;
  expected: string;
  got: string;
  hint: string;
}

function refusal(outcome: Outcome, exit: number, code: string): Refusal {
  assert.is(outcome.code, exit, outcome.stderr);
  const line = outcome.stderr.split('\n').find((text) => text.startsWith('{"error":'));
  assert.ok(line, outcome.stderr);
  const { error } = JSON.parse(line) as { error: Refusal };
  assert.is(error.code, code, line);
  return error;
}

if (!isRoot) {
  console.log('skipped: addresses.test.ts makes network namespaces and needs root');
  for (const name of Object.values(NAMES)) test.skip(name);
} else {
  const net = lan(3);
  const [homeHost, labHost, where] = net.hosts as [string, string, string];
  const [homeAddress, labAddress] = net.addresses as [string, string];
  const [home, lab] = [new Mesh(), new Mesh()];
  const ids = { home: '', lab: '' };
  test.before(async () => {
    await Promise.all([
      home.founder({ where: homeHost, args: ['--port', '4701'] }),
      lab.founder({ where: labHost, args: ['--port', '4701'] }),
    ]);
    ids.home = (await home.json<{ mesh: string }>(['status'])).mesh;
    ids.lab = (await lab.json<{ mesh: string }>(['status'])).mesh;
  });
  test.after(async () => {
    await Promise.all([home.close(), lab.close()]);
    net.close();
  });
  const join = (words: string[]): Promise<Outcome> =>
    home.node('m1', ['join', ...words, '--port', '0', '--json'], { where });

  test(NAMES.two, async () => {
    const error = refusal(await join([]), 2, 'SF_USAGE');
    assert.ok(error.got.includes(ids.home) && error.got.includes(ids.lab), error.got);
    assert.match(error.got, /hub \(/);
    assert.match(error.hint, /--mesh/);
  });

  test(NAMES.one, async () => {
    const asking = lab.join('asking', ['--mesh', ids.lab], { where });
    assert.is((await asking.event('pending')).mesh, ids.lab);
    await asking.end('SIGTERM');
  });

  test(NAMES.approval, async () => {
    const error = refusal(await join(['--founder', labAddress, '--mesh', ids.home]), 3, 'SF_UNREACHABLE');
    assert.match(error.message, new RegExp(`another mesh is at .*${labAddress}`));
    assert.ok(error.expected.includes(ids.home) && error.got.includes(ids.lab), JSON.stringify(error));
  });

  test(NAMES.token, async () => {
    const { token } = await home.json<{ token: string }>(['invite']);
    // The address in the token is dead, as after a move: only the one that was typed is left.
    await home.daemons[0]!.end('SIGTERM');
    const error = refusal(await join([token, '--founder', labAddress]), 3, 'SF_UNREACHABLE');
    assert.match(error.message, new RegExp(`another mesh is at .*${labAddress}`));
    assert.ok(error.expected.includes(ids.home) && error.got.includes(ids.lab), JSON.stringify(error));
    await home.startFounder(['--port', '4701']);
    const joined = home.join('m1', [token, '--founder', homeAddress], { where });
    assert.is((await joined.event('ready')).mesh, ids.home);
    await joined.end('SIGTERM');
  });

  test(NAMES.start, async () => {
    await home.daemons.at(-2)!.end('SIGTERM');
    const started = await home.startMember('m1', ['--port', '0', '--founder', labAddress]);
    assert.is(started.lines.find(({ event }) => event === 'ready')?.online, false);
    await started.until(
      () => (started.log.includes(`another mesh is at`) ? true : undefined),
      'the log names the mesh that is there',
    );
    assert.ok(started.log.includes(ids.lab), started.log);
    await home.startFounder(['--port', '4701']);
    const back = async (): Promise<boolean> => {
      const { items } = await home.json<{ items: { name: string; state: string }[] }>(['node', 'list']);
      return items.some(({ name, state }) => name !== 'hub' && state === 'online');
    };
    for (let tries = 0; !(await back()); tries += 1) assert.ok(tries < 100, started.log);
    await started.end('SIGTERM');
  });

  test(NAMES.none, async () => {
    const member = await lab.member('worker', { where: homeHost, args: ['--port', '4900'] });
    const error = refusal(
      await home.node('m2', ['join', '--founder', `${homeAddress}:4900`, '--port', '0', '--json'], { where }),
      3,
      'SF_UNREACHABLE',
    );
    assert.match(`${error.message} ${error.got}`, /no founder|none/);
    await member.end('SIGTERM');
  });
}

test.run();
