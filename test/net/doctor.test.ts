// limit: 420 s
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { lan } from './hosts.ts';
import { type Daemon, isRoot, Mesh, type Outcome, ok, run } from './mesh.ts';

interface Report {
  able: boolean;
  joins: boolean;
  checks: { check: string; finding: string; status: string; what: string; how: string | null }[];
}

/** What the doctor of a host says, and with which exit code. */
async function doctor(
  mesh: Mesh,
  bin: 'mesh-hub' | 'mesh-node',
  where: string | null,
  name: string,
  args: string[] = [],
) {
  const argv = [join(mesh.program, 'scripts', bin), '--dir', mesh.dir(name), 'doctor', '--json', ...args];
  const done = await run(argv, { where });
  assert.not.equal(done.stdout, '', done.stderr);
  const report = JSON.parse(done.stdout) as Report;
  const of = (check: string) => {
    const found = report.checks.filter((one) => one.check === check);
    assert.ok(found.length > 0, `${check}: ${done.stdout}`);
    return found[0]!;
  };
  return { code: done.code, report, of, ids: report.checks.map(({ finding }) => finding) };
}

const CHAIN = (hook: string) =>
  `add table inet filter\nadd chain inet filter ${hook} { type filter hook ${hook} priority 0; policy accept; }\n`;
const rules = (where: string, text: string) => ok(['nft', '-f', '-'], { where, input: text });
/** Types a line that the doctor printed. */
const type = (where: string, line: string) => ok(['sh', '-ec', line], { where });

/** A program that is none of ours. */
const SSH = `require('net').createServer((socket) => socket.on('error', () => {}).write('SSH-2.0-OpenSSH_9.2\\r\\n'))
  .listen(22, () => console.log('listening'))`;

if (!isRoot) {
  console.log('skipped: doctor.test.ts makes network namespaces and firewall rules, and needs root');
  test.skip('the doctor in namespaces');
} else {
  const net = lan(4);
  const [home, desk, lab, deaf] = net.hosts as [string, string, string, string];
  const mesh = new Mesh();
  const other = new Mesh();
  const drop5353 = `${CHAIN('input')}add rule inet filter input udp dport 5353 drop\n`;
  let lost: Daemon;
  let offline: Promise<Outcome>;

  test.after(async () => {
    await mesh.close();
    await other.close();
    net.close();
  });

  test('the founder that answers is named; mDNS says on which interface, and whom it heard', async () => {
    await mesh.founder({ where: home, args: ['--port', '4701'] });
    // It looks for a founder for a long time before it gives up: meanwhile others are looked at.
    await rules(deaf, drop5353);
    lost = mesh.applicant('lost', { where: deaf });
    const { of, code } = await doctor(mesh, 'mesh-node', desk, 'desk', ['--founder', '10.77.0.1']);
    assert.is(code, 0);
    assert.match(of('founder').what, /^10\.77\.0\.1 answers: founder of hub \([0-9a-f]{64}\)$/);
    assert.is(of('multicast').finding, 'multicast/ok');
    assert.match(of('multicast').what, /^works on eth0; heard 10\.77\.0\.1 \(founder of hub\)/);
  });

  test('a drop rule for the founder’s port: the member says filtered, the founder the line that opens it', async () => {
    await rules(home, `${CHAIN('input')}add rule inet filter input tcp dport 4701 drop\n`);
    // Each machine is its own: both are looked at at once.
    const [shut, told] = await Promise.all([
      doctor(mesh, 'mesh-node', desk, 'desk', ['--founder', '10.77.0.1:4701']),
      doctor(mesh, 'mesh-hub', home, 'hub'),
    ]);
    assert.is(shut.of('founder').finding, 'founder/filtered');
    assert.match(shut.of('founder').how ?? '', /on the founder: sudo mesh-hub doctor/);
    assert.is(shut.code, 3, 'the founder is not reachable');
    assert.is(told.of('port').finding, 'port/ok', 'our own founder has its port');
    const line = 'nft insert rule inet filter input tcp dport 4701 accept';
    assert.is(told.of('firewall').finding, 'firewall/founder-in');
    assert.is(told.of('firewall').how, line);
    await type(home, line);
    const [open, after] = await Promise.all([
      doctor(mesh, 'mesh-node', desk, 'desk', ['--founder', '10.77.0.1:4701']),
      doctor(mesh, 'mesh-hub', home, 'hub'),
    ]);
    assert.is(open.of('founder').finding, 'founder/ok');
    assert.is(after.of('firewall').finding, 'firewall/ok');
  });

  test('a rule here that drops what goes out is found here, with its line', async () => {
    await rules(desk, `${CHAIN('output')}add rule inet filter output tcp dport 4701 drop\n`);
    const shut = await doctor(mesh, 'mesh-node', desk, 'desk', ['--founder', '10.77.0.1:4701']);
    assert.is(shut.of('founder').finding, 'founder/filtered');
    const line = shut.of('founder').how ?? '';
    assert.is(line, 'nft insert rule inet filter output tcp dport 4701 accept');
    assert.ok(shut.ids.includes('firewall/founder-out'));
    await type(desk, line);
    const open = await doctor(mesh, 'mesh-node', desk, 'desk', ['--founder', '10.77.0.1:4701']);
    assert.is(open.of('founder').finding, 'founder/ok');
    await ok(['nft', 'flush', 'ruleset'], { where: desk });
  });

  test('a drop of UDP 5353: not heard, with the line; without it a join says --founder ADDRESS, which works', async () => {
    const hard = await doctor(mesh, 'mesh-node', deaf, 'deaf');
    assert.is(hard.of('multicast').finding, 'multicast/not-heard');
    assert.match(hard.of('multicast').how ?? '', /--founder ADDRESS/);
    assert.ok(hard.ids.includes('firewall/mdns-in'));
    assert.is(hard.code, 0, 'a machine that hears nobody can work');
    const [code] = await Promise.all([
      lost.ended(),
      (async () => {
        const named = mesh.join('named', ['--name', 'named', '--founder', '10.77.0.1'], { where: deaf });
        assert.match(String((await named.event('pending')).code), /^\d{3}-\d{3}-\d{3}$/);
        await named.end('SIGTERM');
      })(),
    ]);
    assert.is(code, 3);
    assert.match(lost.log, /"event":"doctor".*multicast\/not-heard/);
    assert.match(lost.log, /"SF_UNREACHABLE".*no founder was found.*--founder ADDRESS/);
    const [line = ''] = (hard.of('multicast').how ?? '').split('\n');
    assert.is(line, 'nft insert rule inet filter input udp dport 5353 accept');
    await type(deaf, line);
    const hears = await doctor(mesh, 'mesh-node', deaf, 'deaf');
    assert.is(hears.of('multicast').finding, 'multicast/ok');
    assert.match(hears.of('multicast').what, /10\.77\.0\.1 \(founder of hub\)/);
  });

  test('refused, no machine, no route, another program, another mesh and a machine that is no founder are told apart', async () => {
    // One of a network of its own, which is looked at while others wait for answers.
    offline = run([
      ...['unshare', '--net', join(mesh.program, 'scripts/mesh-node')],
      ...['--dir', mesh.dir('offline'), 'doctor', '--json'],
    ]);
    const at = async (name: string, place: string) =>
      (await doctor(mesh, 'mesh-node', desk, name, ['--founder', place])).of('founder').finding;
    const shell = spawn('ip', ['netns', 'exec', lab, process.execPath, '-e', SSH], {
      stdio: ['ignore', 'pipe', 'inherit'],
    });
    await once(shell.stdout, 'data');
    // What waits for an answer waits beside what starts.
    const [refused, nobody] = await Promise.all([
      at('x', '10.77.0.1:4999'),
      at('y', '10.77.0.99'),
      mesh.member('m1', { where: desk, args: ['--port', '4702'] }),
    ]);
    assert.is(refused, 'founder/refused');
    assert.is(nobody, 'founder/no-machine');
    const [program, member] = await Promise.all([
      at('x', '10.77.0.3:22'),
      at('y', '10.77.0.2:4702'),
      other.founder({ where: lab, args: ['--port', '4701'] }),
    ]);
    assert.is(program, 'founder/another-program');
    assert.is(member, 'founder/no-founder');
    shell.kill('SIGKILL');
    await once(shell, 'close');
    const [another, enrolled] = await Promise.all([
      at('m1', '10.77.0.3'),
      doctor(mesh, 'mesh-node', desk, 'm1'),
    ]);
    assert.is(another, 'founder/another-mesh');
    assert.is(enrolled.of('founder').finding, 'founder/ok', 'a member tries the founder that it knows');
    assert.match(enrolled.of('multicast').what, /10\.77\.0\.3 \(refused: founder of another mesh, hub\)/);
    await ok(['ip', 'route', 'delete', 'default'], { where: desk });
    assert.is(await at('x', '192.0.2.1'), 'founder/no-route');
  });

  test('a machine with no network at all is looked at, and can run tasks', async () => {
    const done = await offline;
    const { checks, able } = JSON.parse(done.stdout) as Report;
    assert.is(able, true, done.stdout);
    assert.is(checks.find(({ check }) => check === 'multicast')?.finding, 'multicast/no-interface');
  });
}

test.run();
