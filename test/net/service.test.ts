// limit: 400 s
import { execFileSync } from 'node:child_process';
import {
  appendFileSync,
  chmodSync,
  chownSync,
  existsSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  rmSync,
  statSync,
  truncateSync,
  writeFileSync,
} from 'node:fs';
import { join, resolve } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Client } from '../../node/api/client.ts';
import { readMark } from '../../node/api/socket.ts';
import { LOOKED } from '../../node/cli/lifecycle.ts';
import { lives, type ProcessMark } from '../../node/process-mark.ts';
import { encodeInvite, parseInvite } from '../../protocol/invite.ts';
import { isRoot, Mesh, type Outcome, run } from './mesh.ts';

/**
 * A machine that is given stays given: the commands as a person types them, on a machine whose `systemctl` is the stand-in
 * beside this file. Mount namespaces put it there, so that no test reaches a systemd that may be here.
 */

const ROOT = resolve(import.meta.dirname, '../..');
const [NODE, HUB] = [join(ROOT, 'scripts/mesh-node'), join(ROOT, 'scripts/mesh-hub')];
/** Runs the sources, whose launcher a service names. */
const CLONE = { SUPERFLEET_BUILD: '' };
const STAND_IN = join(import.meta.dirname, 'systemctl-stand-in.ts');
const able = isRoot && existsSync('/etc/systemd/system') && existsSync('/usr/bin/systemctl');
const real = able ? test : test.skip;
if (!able)
  console.log(
    'skipped: service.test.ts puts a stand-in over /usr/bin/systemctl in a mount namespace: root and systemd are needed',
  );

const mesh = new Mesh();

/** A machine with an init of its own, as far as the commands see it. */
class Machine {
  readonly state: string;
  readonly units: string;
  readonly dir: string;
  readonly #run: string;

  constructor(name: string, booted = true, dir = name) {
    this.state = join(mesh.home, `${name}-systemd`);
    this.units = join(this.state, 'units');
    this.#run = join(this.state, 'run');
    this.dir = join(mesh.home, dir);
    mkdirSync(this.units, { recursive: true });
    mkdirSync(booted ? join(this.#run, 'systemd/system') : this.#run, { recursive: true });
    const words = [process.execPath, STAND_IN, this.state, this.units].map((word) => `'${word}'`).join(' ');
    writeFileSync(join(this.state, 'systemctl'), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
    const journal = `[ ! -e '${this.state}/journal' ] || cat '${this.state}/journal'`;
    writeFileSync(join(this.state, 'journalctl'), `#!/bin/sh\n${journal}\n`, { mode: 0o755 });
    machines.push(this);
  }

  /** A command on this machine, with its data folder; that the machine was looked at before is taken for granted. */
  type(words: string[], bin = NODE, env: NodeJS.ProcessEnv = {}, before: string[] = []): Promise<Outcome> {
    const mounts = [
      `mount --bind '${this.#run}' /run`,
      `mount --bind '${this.units}' /etc/systemd/system`,
      `mount --bind '${join(this.state, 'systemctl')}' /usr/bin/systemctl`,
      `mount --bind '${join(this.state, 'journalctl')}' /usr/bin/journalctl`,
      'exec "$@"',
    ].join(' && ');
    const inside = ['unshare', '--mount', '--propagation', 'private', 'sh', '-c', mounts, 'sh', ...before];
    return run([...inside, bin, ...words], { env: { MESH_HOME: this.dir, [LOOKED]: '1', ...env } });
  }

  /** How systemctl was called to change something, since the last look. */
  calls(): string[] {
    const path = join(this.state, 'calls');
    if (!existsSync(path)) return [];
    const said = readFileSync(path, 'utf8').trim().split('\n');
    rmSync(path);
    return said.filter((line) => !/^(--user )?(show|--version)/.test(line));
  }

  refuse(verb: string | null): void {
    writeFileSync(join(this.state, 'refuse'), verb ?? '');
  }

  get pid(): number | null {
    const mark = readMark(this.dir);
    return mark !== null && lives(mark) ? mark.pid : null;
  }

  /** What a loss of power and the next boot do. */
  async reboot(): Promise<void> {
    const mark = readMark(this.dir)!;
    process.kill(mark.pid, 'SIGKILL');
    await gone(mark);
    assert.ok(existsSync(join(this.state, 'enabled')), 'what is not enabled is not brought up');
    execFileSync(join(this.state, 'systemctl'), ['start', 'superfleet-node.service']);
  }

  get journal(): string {
    const path = join(this.state, 'journal');
    return existsSync(path) ? readFileSync(path, 'utf8') : '';
  }

  async end(): Promise<void> {
    const mark = readMark(this.dir);
    if (mark === null || !lives(mark)) return;
    process.kill(mark.pid, 'SIGKILL');
    await gone(mark);
  }
}
const machines: Machine[] = [];

async function gone(mark: ProcessMark): Promise<void> {
  // There is no event for the end of a process that is not a child.
  while (lives(mark)) await new Promise((resolve) => setTimeout(resolve, 20));
}

const token = async (): Promise<string> => (await mesh.client.post<{ token: string }>('/v1/invites')).token;
const nodes = async (): Promise<{ name: string; state: string }[]> =>
  (await mesh.client.get<{ items: { name: string; state: string }[] }>('/v1/nodes')).items;

function done(outcome: Outcome, exit = 0): Outcome {
  assert.is(outcome.code, exit, `${outcome.stdout}${outcome.stderr}`);
  return outcome;
}
const documents = (outcome: Outcome): Record<string, unknown>[] =>
  done(outcome)
    .stdout.trim()
    .split('\n')
    .map((line) => JSON.parse(line) as Record<string, unknown>);

interface Refusal {
  code: string;
  message: string;
  got: string | null;
  hint: string | null;
}
function refusal(outcome: Outcome, exit: number, code: string): Refusal {
  assert.is(outcome.code, exit, `${outcome.stdout}${outcome.stderr}`);
  const line = outcome.stderr.split('\n').find((text) => text.startsWith('{"error":'));
  const { error } = JSON.parse(line ?? 'null') as { error: Refusal };
  assert.is(error.code, code, outcome.stderr);
  return error;
}

/** One command, asked of this very machine, that its sandbox ran and nobody else could have. */
async function works(name: string): Promise<void> {
  const task = await mesh.json<{ state: string; executor: { name: string } }>([
    ...['task', 'run', '--no-repo', '--wait', '--on', name, '--check', 'true', '--memory', '256MiB'],
    ...['--', 'sh', '-c', 'test -w /workspace && ! test -e /home/.ssh && hostname'],
  ]);
  assert.is(task.state, 'delivered');
  assert.is(task.executor.name, name);
}

let m1: Machine;
let first = '';

test.before(async () => {
  if (!able) return;
  await mesh.founder({ args: ['--port', '0', '--log-level', 'error'] });
  // A data folder with spaces, a percent sign, a dollar and non-ASCII in its path.
  m1 = new Machine('m1', true, 'dätä für 100% $HOME');
  first = await token();
});
test.after(async () => {
  for (const machine of machines) await machine.end();
  await mesh.close();
});

real(
  'join TOKEN --yes --service asks nothing: enrols, installs, and returns when the service works',
  async () => {
    const words = ['join', first, '--yes', '--service', '--name', 'm1'];
    const said = documents(await m1.type([...words, '--json'], NODE, { [LOOKED]: '' }));
    assert.equal(
      said.map(({ event }) => event),
      ['enrolled', 'service'],
    );
    assert.is(said[0]!.name, 'm1');
    const { file, process: started, pid, enabled, active, installed, dir, scope } = said[1]!;
    assert.equal(
      { file, started, enabled, active, installed, dir, scope },
      {
        file: 'made',
        started: 'started',
        enabled: true,
        active: true,
        installed: true,
        dir: m1.dir,
        scope: 'system',
      },
    );
    assert.equal(m1.calls(), ['daemon-reload', 'enable --now superfleet-node.service']);
    assert.is(pid, m1.pid, 'the process that answers is the one that the unit started');
    const status = readFileSync(`/proc/${pid}/status`, 'utf8');
    assert.match(status, /^NoNewPrivs:\t1$/m);
    assert.match(status, /^Uid:\t[1-9]/m, 'it has given up root');
    assert.ok((await nodes()).some(({ name, state }) => name === 'm1' && state === 'online'));
  },
);

real('under the unit’s capabilities and view of the file system a task runs in its sandbox', async () => {
  const view = execFileSync('cat', [`/proc/${m1.pid}/mountinfo`], { encoding: 'utf8' });
  assert.match(view, /^\d+ \d+ \S+ \/\S* \/ ro[, ]/m, 'the root is read-only to it');
  await works('m1');
});

real('after a reboot the machine is there again without a person', async () => {
  const before = m1.pid;
  await m1.reboot();
  // Asked over its socket: a command each time would be most of the work.
  const client = new Client({ dir: m1.dir, startHint: 'mesh-node start' });
  const answers = (): Promise<boolean> =>
    client.get('/v1/node').then(
      () => true,
      () => false,
    );
  while (!(await answers())) {
    assert.not.match(m1.journal, /^error:/m);
    await delay(20);
  }
  assert.is((await m1.type(['status', '--json'])).code, 0);
  assert.is.not(m1.pid, before);
  await works('m1');
});

real('join and service install, done twice, are no error and change nothing, and say so', async () => {
  const { pid } = m1;
  m1.calls();
  const again = done(await m1.type(['join', first, '--yes', '--service']));
  assert.match(
    again.stdout,
    /^already installed: superfleet-node\.service runs as process \d+; nothing was changed$/m,
  );
  assert.match(again.stderr, /a member already/);
  const [twice] = documents(await m1.type(['service', 'install', '--json']));
  assert.is(twice!.file, 'unchanged');
  assert.is(twice!.process, 'kept');
  assert.equal(m1.calls(), []);
  assert.is(m1.pid, pid);
});

real('a unit of ours that differs is replaced, told of, and the process restarted', async () => {
  const path = join(m1.units, 'superfleet-node.service');
  const before = readFileSync(path, 'utf8');
  appendFileSync(path, 'Nice=5\n');
  const { pid } = m1;
  const said = done(await m1.type(['service', 'install']));
  assert.match(
    said.stdout,
    /^replaced \/etc\/systemd\/system\/superfleet-node\.service; .* restarted as process/m,
  );
  assert.is(readFileSync(path, 'utf8'), before);
  assert.equal(m1.calls(), [
    'daemon-reload',
    'enable superfleet-node.service',
    'restart superfleet-node.service',
  ]);
  assert.is.not(m1.pid, pid);
});

real('join with a token of another mesh is refused, running or not, and says how to go on', async () => {
  // Nobody is asked whether it is good: by the mesh that it names it is none for this machine.
  const foreign = encodeInvite({ ...parseInvite(await token()), mesh: 'e'.repeat(64) });
  const { pid } = m1;
  const running = refusal(await m1.type(['join', foreign, '--yes', '--service', '--json']), 2, 'SF_EXISTS');
  assert.match(running.hint ?? '', /mesh-node leave/);
  assert.is(m1.pid, pid);
  done(await m1.type(['stop']));
  refusal(await m1.type(['join', foreign, '--yes', '--service', '--json']), 2, 'SF_EXISTS');
  assert.is(m1.pid, null);
});

real('join on an enrolled machine that is down just starts it, without a token too', async () => {
  m1.calls();
  const said = documents(await m1.type(['join', '--yes', '--service', '--json']));
  assert.is(said[0]!.name, 'm1');
  assert.is(said[1]!.process, 'started');
  assert.equal(m1.calls(), ['enable --now superfleet-node.service']);
  assert.ok(m1.pid !== null);
});

test('plain join on an enrolled machine just starts it, its token used up or left out', async () => {
  if (!able) await mesh.founder({ args: ['--port', '0', '--log-level', 'error'] });
  const once = await token();
  const id = (await mesh.joinWith('plain', once)).lines[0]!.id;
  await mesh.daemons.at(-1)!.end('SIGTERM');
  assert.is((await mesh.joinWith('plain', once)).lines[0]!.id, id);
  await mesh.daemons.at(-1)!.end('SIGTERM');
  const said = documents(await mesh.node('plain', ['join', '--yes', '--no-start', '--slots', '3', '--json']));
  assert.equal(
    said.map(({ event, id }) => [event, id]),
    [['enrolled', id]],
  );
  const kept = JSON.parse(readFileSync(join(mesh.dir('plain'), 'config.json'), 'utf8')) as { slots: number };
  assert.is(kept.slots, 3, 'what the service is to start with is kept');
});

real('a second data folder does not take the unit over; the token is not spent', async () => {
  const fresh = await token();
  const other = ['--dir', join(mesh.home, 'second')];
  const error = refusal(
    await m1.type(['join', fresh, '--yes', '--service', '--json', ...other]),
    2,
    'SF_EXISTS',
  );
  assert.is(error.got, m1.dir);
  assert.not.ok(existsSync(join(mesh.home, 'second')));
  refusal(await m1.type(['service', 'uninstall', '--json', ...other]), 2, 'SF_EXISTS');
  assert.ok(m1.pid !== null);
});

real('uninstall stops it and leaves the membership; what is not installed is said to be so', async () => {
  m1.calls();
  const said = done(await m1.type(['service', 'uninstall']));
  assert.match(said.stdout, /^uninstalled superfleet-node\.service/);
  assert.equal(m1.calls(), ['disable --now superfleet-node.service', 'daemon-reload']);
  assert.equal(readdirSync(m1.units), []);
  assert.is(m1.pid, null);
  assert.ok(existsSync(join(m1.dir, 'membership.json')));
  assert.match(done(await m1.type(['service', 'uninstall'])).stdout, /^not installed: there is no /);
  const status = documents(await m1.type(['service', 'status', '--json']))[0]!;
  assert.equal([status.installed, status.enabled, status.active], [false, false, false]);
});

real('what systemctl refuses is told in its words, and nothing stays half done', async () => {
  for (const verb of ['daemon-reload', 'enable']) {
    m1.refuse(verb);
    const error = refusal(await m1.type(['service', 'install', '--json']), 6, 'SF_SERVICE');
    assert.match(`${error.message} ${error.got}`, new RegExp(`systemctl ${verb}.*Access denied`, 's'));
    assert.equal(readdirSync(m1.units), []);
    assert.not.ok(existsSync(join(m1.state, 'enabled')));
  }
  m1.refuse(null);
});

real('a process that was started by hand is taken over', async () => {
  documents(await m1.type(['start', '--detach', '--json']));
  const { pid } = m1;
  m1.calls();
  const said = done(await m1.type(['service', 'install']));
  assert.match(said.stderr, new RegExp(`process ${pid} was started by hand`));
  assert.equal(m1.calls(), [
    'daemon-reload',
    'enable superfleet-node.service',
    'start superfleet-node.service',
  ]);
  assert.ok(m1.pid !== null && m1.pid !== pid);
  done(await m1.type(['service', 'uninstall']));
});

real('a unit that somebody else wrote is left alone, and the token is not spent on it', async () => {
  const machine = new Machine('m2');
  const path = join(machine.units, 'superfleet-node.service');
  writeFileSync(path, '[Service]\nExecStart=/bin/true\n');
  const fresh = await token();
  for (const words of [
    ['join', fresh, '--yes', '--service', '--name', 'm2'],
    ['service', 'uninstall'],
  ]) {
    refusal(await machine.type([...words, '--json']), 2, 'SF_EXISTS');
  }
  assert.is(readFileSync(path, 'utf8'), '[Service]\nExecStart=/bin/true\n');
  assert.equal(machine.calls(), []);
  rmSync(path);
  documents(await machine.type(['join', fresh, '--yes', '--service', '--name', 'm2', '--json']));
  done(await machine.type(['service', 'uninstall']));
});

real('without systemd as init join still joins and works, and says what it did not do (exit 6)', async () => {
  const machine = new Machine('bare', false);
  const refused = refusal(await machine.type(['service', 'install', '--json']), 6, 'SF_SERVICE');
  assert.match(refused.message, /systemd is not the init/);
  const words = ['join', await token(), '--yes', '--service', '--name', 'bare', '--json'];
  const said = await machine.type(words, NODE, CLONE);
  const error = refusal(said, 6, 'SF_SERVICE');
  assert.match(error.message, /has joined and works now, but no boot will start it/);
  assert.match(error.hint ?? '', /scripts\/mesh-node --dir .* start/);
  assert.equal(
    said.stdout
      .trim()
      .split('\n')
      .map((line) => (JSON.parse(line) as { event: string }).event),
    ['enrolled', 'ready'],
  );
  assert.ok((await nodes()).some(({ name, state }) => name === 'bare' && state === 'online'));
  assert.equal(machine.calls(), [], 'systemctl was not even asked');
  done(await machine.type(['stop']));
});

real('--print writes the unit anywhere and changes nothing', async () => {
  const machine = new Machine('printer', false);
  const unit = done(await machine.type(['service', 'install', '--print'], NODE, CLONE)).stdout;
  assert.match(unit, /^ExecStart=:.*scripts\/mesh-node --dir \S+ start/m);
  const [hub] = documents(await machine.type(['service', 'install', '--print', '--json'], HUB));
  assert.match(String(hub!.text), /^ReadWritePaths=\S+ \S+\.secrets\b/m);
  assert.not.ok(existsSync(machine.dir));
});

real('a folder that has joined nothing gets no service that would fail at every boot', async () => {
  const machine = new Machine('empty');
  const error = refusal(await machine.type(['service', 'install', '--json']), 2, 'SF_CONFLICT');
  assert.match(error.hint ?? '', /join TOKEN --yes --service/);
  assert.equal([machine.calls(), readdirSync(machine.units)], [[], []]);
});

real('the founder is kept as a service too, taken over from a process by hand', async () => {
  const machine = new Machine('hub');
  machines.splice(machines.indexOf(machine), 1);
  const hub = mesh.daemons[0]!;
  const said = done(await machine.type(['service', 'install'], HUB));
  assert.match(said.stdout, /superfleet-hub\.service was started as process/);
  assert.ok(hub.exited);
  assert.is((await mesh.json<{ mesh: string }>(['status'])).mesh.length, 64);
  done(await machine.type(['service', 'uninstall'], HUB));
  await mesh.startFounder(['--port', '0', '--log-level', 'error']);
});

/** An ordinary user with a home, on a file system with this many KiB. */
const ANN = 164_718;
const DROP = ['--reuid', String(ANN), '--regid', String(ANN), '--clear-groups', '--inh-caps=-all'];
/** What ann's own shell does not have from here: what is root's. */
const OWN = { XDG_CONFIG_HOME: '', NODE_COMPILE_CACHE: '' };
const readable = able && asAnn(['test', '-r', NODE]) && asAnn(['test', '-r', process.execPath]);
function asAnn(argv: string[]): boolean {
  try {
    execFileSync('setpriv', [...DROP, ...argv], { stdio: 'ignore' });
    return true;
  } catch {
    return false;
  }
}
if (able && !readable)
  console.log('skipped: the tests of a user’s service need a clone that every user can read');

(readable ? test : test.skip)('as an ordinary user it is a user’s unit, and linger is told of', async () => {
  const machine = new Machine('ann', true, 'ann/data');
  const home = join(mesh.home, 'ann');
  mkdirSync(home, { recursive: true });
  for (const path of [home, machine.state]) chownSync(path, ANN, ANN);
  const units = join(home, '.config/systemd/user');
  const words = [process.execPath, STAND_IN, machine.state, units].join(' ');
  writeFileSync(join(machine.state, 'systemctl'), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
  const env = { ...OWN, HOME: home, XDG_RUNTIME_DIR: home };
  const type = (line: string[]) => machine.type(line, NODE, env, ['setpriv', ...DROP, '--']);
  const said = done(await type(['join', await token(), '--yes', '--service', '--name', 'ann']));
  assert.match(said.stderr, /loginctl enable-linger/);
  assert.equal(machine.calls(), ['--user daemon-reload', '--user enable --now superfleet-node.service']);
  assert.match(readFileSync(join(units, 'superfleet-node.service'), 'utf8'), /^WantedBy=default\.target$/m);
  await works('ann');
  assert.match(done(await type(['service', 'status'])).stdout, /^starts at boot +at login$/m);
  done(await type(['service', 'uninstall']));
});

(readable ? test : test.skip)(
  'a home on a full disk is told plainly, nothing is half done, and the same command goes on',
  async () => {
    const home = join(mesh.home, 'full');
    mkdirSync(home);
    execFileSync('mount', ['-t', 'tmpfs', '-o', 'size=48m,mode=755', 'tmpfs', home]);
    const machine = new Machine('filled', true, 'full/data');
    const units = join(home, '.config/systemd/user');
    const words = [process.execPath, STAND_IN, machine.state, units].join(' ');
    writeFileSync(join(machine.state, 'systemctl'), `#!/bin/sh\nexec ${words} "$@"\n`, { mode: 0o755 });
    for (const path of [home, machine.state]) chownSync(path, ANN, ANN);
    const env = { ...OWN, [LOOKED]: '', HOME: home, XDG_RUNTIME_DIR: machine.state };
    const type = (line: string[]) => machine.type([...line, '--json'], NODE, env, ['setpriv', ...DROP, '--']);
    const ballast = join(home, 'ballast');
    const fill = (leaveKiB: number): void => {
      execFileSync('sh', ['-c', `head -c 100000000 /dev/zero > '${ballast}' 2>/dev/null || true`]);
      truncateSync(ballast, Math.max(0, statSync(ballast).size - leaveKiB * 1024));
    };
    try {
      const fresh = await token();
      const join_ = ['join', fresh, '--yes', '--service', '--name', 'filled'];
      // Full at the first file, and at later ones: whatever was done before, the same command goes on from there.
      for (const leaveKiB of [0, 64, 8 * 1024]) {
        fill(leaveKiB);
        const said = await type(join_);
        const error = refusal(said, 6, 'SF_DISK_FULL');
        assert.match(error.hint ?? '', /free some|says why/, JSON.stringify(error));
        assert.not.ok(existsSync(join(units, 'superfleet-node.service')));
      }
      rmSync(ballast);
      done(await type(join_));
      assert.ok(machine.pid !== null);
      done(await type(['service', 'uninstall']));
      // Enrolled, and full when the unit is written.
      fill(0);
      refusal(await type(['service', 'install']), 6, 'SF_DISK_FULL');
      assert.equal(readdirSync(units), [], 'no part of a unit');
      rmSync(ballast);
      documents(await type(['service', 'install']));
      done(await type(['stop']));
      // Installed, and full when it is started: what its process says is said here.
      fill(0);
      const late = refusal(await type(['service', 'install']), 6, 'SF_DISK_FULL');
      assert.match(late.message, /is installed, but what it runs has ended: no room/);
      rmSync(ballast);
      done(await type(['service', 'uninstall']));
    } finally {
      await machine.end();
      execFileSync('umount', [home]);
    }
  },
);

chmodSync(mesh.home, 0o755);
test.run();
