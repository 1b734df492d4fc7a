// limit: 240 s
import { userInfo } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import type { Entry } from '../../ledger/lines/entry.ts';
import { LOOKED } from '../../node/cli/lifecycle.ts';
import { has, Screen, SH } from '../terminal.ts';
import { Fleet } from './fleet.ts';
import type { Daemon } from './mesh.ts';

/** `mesh-hub start` on a real terminal: what a person sees and types when machines want to join. */

const HUB = join(import.meta.dirname, '../../scripts/mesh-hub');

/** What the question does with its lines is seen only where those that the terminal broke are left broken. */
const TERMINAL = { cwd: '/', rows: 40, joined: false, shell: SH };
/** Nothing here is about the first look at a machine. */
const looked = { [LOOKED]: '1' };

interface Desk {
  fleet: Fleet;
  screen: Screen;
  /** A machine that asks to be let in, and its code. */
  asks(name: string): Promise<{ daemon: Daemon; code: string }>;
}

/** One mesh, whose founder is started anew at each desk; machines have names of their own. */
const mesh = new Fleet();
test.before(async () => {
  const words = ['init', '--name', 'hub', '--recovery-key', join(mesh.home, 'recovery.key')];
  const init = await mesh.hub(words);
  assert.is(init.code, 0, init.stderr);
  mesh.configure('hub', {});
});
test.after(() => mesh.close());

/** A founder in the foreground of a terminal; `line` makes the command line that starts it. */
async function atTheDesk(
  options: {
    columns?: number;
    env?: Record<string, string>;
    flags?: string[];
    tail?: string;
    ready?: RegExp;
  },
  body: (desk: Desk) => Promise<void>,
): Promise<void> {
  const { columns = 80, env = {}, flags = [], tail = '', ready = /listening on ([\d.:\s]+)/ } = options;
  let screen: Screen | null = null;
  const asking: Daemon[] = [];
  try {
    screen = await Screen.open({
      ...TERMINAL,
      columns,
      env: { MESH_HOME: mesh.dir('hub'), ...looked, ...env },
    });
    await screen.sees(/^\$$/m);
    await screen.line(`${HUB} start --port 0 ${flags.join(' ')} ${tail}`);
    const text = await screen.sees(ready);
    const port = /127\.0\.0\.1(?::|\/tcp\/)(\d+)/.exec(text.replace(/\n/g, ''))?.[1];
    const asks = async (name: string) => {
      const args = ['--port', '0', '--founder', `/ip4/127.0.0.1/tcp/${port}`];
      mesh.configure(name, {});
      const daemon = mesh.applicant(name, { args, env: looked });
      asking.push(daemon);
      return { daemon, code: (await daemon.event('pending')).code as string };
    };
    await body({ fleet: mesh, screen, asks });
  } finally {
    await Promise.all([mesh.hub(['stop']).catch(() => {}), ...asking.map((each) => each.end('SIGTERM'))]);
    await screen?.close();
  }
}

/** The log's entries of this type, oldest first. */
async function logged(fleet: Fleet, type: string): Promise<Record<string, unknown>[]> {
  const items: Entry[] = [];
  const path = '/v1/ledger/entries?from=0&follow=0';
  for await (const entry of fleet.client.lines<Entry>('GET', path)) items.push(entry);
  return items.filter((entry) => entry.type === type).map(({ body }) => body as Record<string, unknown>);
}

if (!has('tmux')) {
  console.log('SKIP the founder at a terminal: tmux is not installed');
} else {
  test('at the founder’s terminal a machine is let in by y, sent away by n, left waiting by Enter', () =>
    atTheDesk({ flags: ['--log-level', 'debug'] }, async ({ fleet, screen, asks }) => {
      await screen.line('y');
      const one = await asks('laptop-1');
      await screen.sees(new RegExp(`^laptop-1 wants to join, code ${one.code} \\[y/N\\]$`, 'm'));
      assert.equal(await logged(fleet, 'member.rejected'), []);
      assert.is(
        (await logged(fleet, 'member.admitted')).length,
        1,
        'what was typed before the question is no answer',
      );
      // Two more ask meanwhile: each gets its own question, one after the other.
      const two = await asks('laptop-2');
      const three = await asks('laptop-3');
      assert.not.match(await screen.text(), /laptop-[23] wants/);
      await screen.press('y', 'e');
      await screen.sees(new RegExp(`code ${one.code} \\[y/N\\] ye$`, 'm'));
      await screen.press('BSpace', 'Enter');
      await one.daemon.event('ready');
      await screen.sees(/^laptop-1 is in \(12D3/m);
      const [, admitted] = await logged(fleet, 'member.admitted');
      const by = { kind: 'local', user: userInfo().username, claimed: true };
      assert.equal(
        [admitted?.name, admitted?.by],
        ['laptop-1', by],
        'the act of a person, as node approve logs it',
      );
      assert.equal(admitted?.via, { kind: 'approval', code: one.code });

      await screen.sees(new RegExp(`^laptop-2 wants to join, code ${two.code} \\[y/N\\]$`, 'm'));
      await screen.press('o', 'k', 'Enter');
      await screen.sees(/^y lets it in, n sends it away, Enter leaves it for later$/m);
      await screen.press('n', 'Enter');
      await screen.sees(/^laptop-2 is sent away$/m);
      await two.daemon
        .until(() => (two.daemon.exited ? true : undefined), 'the end of laptop-2')
        .catch(() => {});
      const [rejected] = await logged(fleet, 'member.rejected');
      assert.equal([rejected?.name, rejected?.by], ['laptop-2', by]);

      await screen.sees(new RegExp(`^laptop-3 wants to join, code ${three.code} \\[y/N\\]$`, 'm'));
      await screen.press('Enter');
      const left = await screen.sees(/^laptop-3 goes on waiting: (.*)$/m);
      assert.match(left, new RegExp(`waiting: mesh-hub node approve ${three.code}`));
      assert.is((await fleet.hub(['node', 'approve', three.code])).code, 0);
      await screen.sees(/^laptop-3 is in: approved elsewhere$/m);
      await three.daemon.event('ready');
    }));

  test('a question is taken back in words, and lines of the log do not run into what is typed', () =>
    atTheDesk({ flags: ['--log-level', 'debug'] }, async ({ fleet, screen, asks }) => {
      const one = await asks('one');
      const question = new RegExp(`^one wants to join, code ${one.code} \\[y/N\\]$`, 'm');
      await screen.sees(question);
      await screen.press('n');
      const two = await asks('two');
      await two.daemon.end('SIGKILL');
      await screen.sees(/^two waits no longer: it gave up, or its connection broke$/m);
      // A line of the log comes in between, and the question is last, whole.
      await screen.sees(/^\d\d:\d\d:\d\d debug .*SF_UNREACHABLE/m);
      const text = await screen.sees(new RegExp(`\\none wants to join, code ${one.code} \\[y/N\\] n$`));
      assert.is(text.match(/one wants to join/g)?.length, 1, 'and stands there once');
      await screen.press('C-u');
      await screen.sees(question);
      assert.is((await fleet.hub(['node', 'approve', one.code])).code, 0);
      const after = await screen.sees(/^one is in: approved elsewhere$/m);
      assert.not.match(after, /one wants to join/, 'the question is gone');
      // A name that is taken keeps nobody from going on.
      const again = await asks('three');
      await screen.sees(/^three wants to join/m);
      await again.daemon.end('SIGKILL');
      await screen.sees(/^three waits no longer/m);
    }));

  test('Ctrl-C at the question stops in order, and the same command goes on', () =>
    atTheDesk({}, async ({ screen, asks }) => {
      const { daemon, code } = await asks('four');
      await screen.sees(new RegExp(`code ${code} \\[y/N\\]$`, 'm'));
      await screen.press('y', 'C-c');
      await screen.sees(/SIGINT: stopping[\s\S]*^\$$/m);
      await screen.line('echo "code $?"; stty -a | grep -o -- "-\\?icanon"');
      const text = await screen.sees(/^-?icanon$/m);
      assert.match(text, /^code 0$/m);
      assert.match(text, /^icanon$/m, 'the terminal is as it was');
      assert.not.match(text, /is in/);
      await screen.line(`clear; ${HUB} start --port 0`);
      await screen.sees(/listening on/);
      await daemon.end('SIGKILL');
    }));

  for (const [what, columns, env, room, place] of [
    ['40 columns', 40, {}, 'living-room', 'attic'],
    ['40 columns and NO_COLOR', 40, { NO_COLOR: '1' }, 'dining-room', 'porch'],
    ['a terminal that knows no controls', 60, { TERM: 'dumb' }, 'family-room', 'cabin'],
  ] as const) {
    test(`the question reads well with ${what}`, () =>
      atTheDesk({ columns, env }, async ({ screen, asks }) => {
        const one = await asks(room);
        const asked = new RegExp(`${room} wants to join,\\s+code\\s+${one.code} \\[y/N\\]$`);
        await screen.sees(asked);
        await screen.press('x');
        const two = await asks(place);
        await two.daemon.end('SIGKILL');
        const text = await screen.sees(
          new RegExp(`${place} waits no longer: it gave up,\\s+or\\s+its connection\\s+broke[\\s\\S]*x$`),
        );
        assert.match(text, new RegExp(`${room} wants to join,\\s+code\\s+${one.code} \\[y/N\\] x$`));
        if (env !== undefined && 'TERM' in env) assert.not.match(await screen.text(true), /\x1b/);
        else assert.is(text.match(new RegExp(`${room} wants`, 'g'))?.length, 1, text);
        if ('NO_COLOR' in env) assert.not.match(await screen.text(true), /\x1b/);
        await screen.press('BSpace', 'y', 'Enter');
        await one.daemon.event('ready');
        await screen.sees(new RegExp(`${room} is in`));
      }));
  }

  test('with --json on a terminal nothing is asked, and the log says who waits', () =>
    atTheDesk({ flags: ['--json'], ready: /"event":"ready"[\s\S]*\}/ }, async ({ screen, asks }) => {
      const { code } = await asks('five');
      const text = await screen.sees(/five wants to join:\s+compare\s+the\s+codes/);
      assert.match(text.replace(/\n/g, ''), new RegExp(`node approve ${code}`));
      assert.not.match(text, /\[y\/N\]/);
    }));

  test('started in the background of a shell nothing is asked: it would be stopped for reading the keyboard', () =>
    atTheDesk({ tail: '&' }, async ({ fleet, screen, asks }) => {
      const { daemon, code } = await asks('six');
      const text = await screen.sees(/six wants to join: compare the codes/);
      assert.not.match(text, /\[y\/N\]/);
      await screen.line('echo still here');
      await screen.sees(/^still here$/m);
      assert.is((await fleet.hub(['node', 'approve', code])).code, 0, 'the founder runs on');
      await daemon.event('ready');
    }));
}

test('without a terminal nothing is asked: the log says who waits, and what to type', async () => {
  const fleet = await Fleet.start();
  try {
    const address = (fleet.hubDaemon!.lines[0]!.addresses as string[])[0]!;
    fleet.configure('one', {});
    const one = fleet.applicant('one', { args: ['--port', '0', '--founder', address], env: looked });
    const { code } = await one.event('pending');
    const { hubDaemon } = fleet;
    await hubDaemon!.until(() => /one wants to join/.exec(hubDaemon!.log) ?? undefined, 'a line about one');
    assert.match(hubDaemon!.log, new RegExp(`mesh-hub node approve ${code}`));
    assert.not.match(hubDaemon!.log, /\[y\/N\]/);
  } finally {
    await fleet.close();
  }
});

test.run();
