import { existsSync, realpathSync, statSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import {
  asSuperfleetError,
  type ErrorDetail,
  EXIT,
  isErrorCode,
  SuperfleetError,
} from '../../protocol/errors.ts';
import { osUser } from '../api/client.ts';
import { readMark } from '../api/socket.ts';
import { folderPaths } from '../folder.ts';
import { lives } from '../process-mark.ts';
import { lingers, type Manager, managerOf, thisHost } from '../service/manager.ts';
import { programWords } from '../service/program.ts';
import {
  type Installed,
  install,
  requireManager,
  requireRoom,
  status,
  uninstall,
} from '../service/service.ts';
import type { ServiceSpec } from '../service/types.ts';
import { endProcess } from './lifecycle.ts';
import { cell, fields } from './render.ts';
import type { ServiceCommand } from './service-grammar.ts';
import { type Session, show } from './session.ts';

/** A process that was started is ready within this time, as with --detach. */
const readyMs = 120_000;
/** There is no event for a start that a service manager makes; the question is small. */
const lookEveryMs = 200;
/** As `stop` waits for a process started by hand. */
const stopMs = 60_000;

/** `service install|uninstall|status` of both programs. `beside`: folders outside the data folder that it writes. */
export async function runService(
  command: ServiceCommand,
  session: Session,
  beside: string[],
): Promise<number> {
  const manager = managerOf(session.bin, thisHost(session.terminal.env));
  switch (command.verb) {
    case 'service install': {
      const spec = specOf(session, manager, beside, command.user);
      if (command.print) return print(session, manager, spec);
      await installService(session, manager, spec);
      return EXIT.ok;
    }
    case 'service uninstall': {
      const gone = await uninstall(manager, { bin: session.bin, dir: session.dir });
      const said = gone
        ? `uninstalled ${manager.unit}: it has stopped, and no boot starts it; the data folder ${session.dir} stays`
        : `not installed: there is no ${manager.path}`;
      show(session, { uninstalled: gone, ...about(manager) }, () => cell(said));
      return EXIT.ok;
    }
    case 'service status':
      show(session, about(manager), statusText);
      if (manager.absent !== null) session.voice.note(`no service can be kept here: ${manager.absent}`);
      return EXIT.ok;
    default:
      return command satisfies never;
  }
}

export function specOf(
  session: Session,
  manager: Manager,
  beside: string[],
  user: string | null,
): ServiceSpec {
  const isFile = (path: string): boolean => statSync(path, { throwIfNoEntry: false })?.isFile() ?? false;
  const script = realpathSync(process.argv[1] ?? '');
  return {
    bin: session.bin,
    program: programWords(session.bin, { node: process.execPath, script, isFile }),
    dir: session.dir,
    beside,
    // The journal is read by people, and knows no terminal.
    flags: ['--log-format', 'text', ...(user === null ? [] : ['--user', user])],
    scope: manager.scope,
  };
}

function print(session: Session, manager: Manager, spec: ServiceSpec): number {
  const { unit, path } = manager;
  const text = manager.text(spec);
  show(session, { unit, path, text }, () => text);
  return EXIT.ok;
}

/** Refuses before anything is done what `installService` would refuse. */
export function requireService(session: Session, manager: Manager): void {
  requireManager(manager);
  requireRoom(manager, session);
}

/** Installs, waits until the process answers, and says what was done. */
export async function installService(session: Session, manager: Manager, spec: ServiceSpec): Promise<void> {
  requireService(session, manager);
  requireFolder(session);
  const { voice, dir, typed } = session;
  const running = readMark(dir);
  const byHand = running !== null && lives(running) && manager.state().pid !== running.pid;
  const done = await install(manager, spec, byHand, async () => {
    voice.note(
      `process ${running?.pid} was started by hand with this data folder: the service takes over from it`,
    );
    await endProcess(session, stopMs);
  });
  await ready(session, manager);
  const now = about(manager);
  show(session, { event: 'service', ...done, ...now }, () => sentence(manager, done, now.pid));
  if (manager.name === 'launchd') voice.note('untested: nobody has run this service on a Mac yet');
  if (now.linger === false) {
    const user = cell(osUser());
    voice.note(`it starts when ${user} logs in, and ends with the last session; to have it from boot on:`);
    voice.note(`  sudo loginctl enable-linger ${user}`);
  }
  voice.note(`what it says: ${manager.logs}; to see it: ${typed} service status`);
}

function sentence(manager: Manager, { file, process }: Installed, pid: number | null): string {
  const { unit, path } = manager;
  const running = pid === null ? '' : ` as process ${pid}`;
  if (file === 'unchanged' && process === 'kept')
    return `already installed: ${unit} runs${running}; nothing was changed`;
  const wrote = { made: 'wrote', replaced: 'replaced', unchanged: 'found' }[file];
  return `${wrote} ${path}; ${unit} was ${process}${running}, and every boot starts it`;
}

/** A service of a folder with nothing in it would fail at every boot. */
function requireFolder({ dir, bin }: Session): void {
  const paths = folderPaths(dir);
  const hub = bin === 'mesh-hub';
  if (existsSync(hub ? paths.logKey : paths.membership)) return;
  throw new SuperfleetError(
    'SF_CONFLICT',
    `${dir} is not yet a ${hub ? 'founder' : 'member'}’s data folder`,
    {
      expected: hub ? 'one that was made by mesh-hub init' : 'one that has joined a mesh',
      got: existsSync(dir) ? 'a folder without it' : 'no folder, or one this user cannot read',
      hint: hub
        ? 'mesh-hub init, then this again; another folder is named by --dir'
        : 'mesh-node join TOKEN --yes --service does both; another folder is named by --dir',
    },
  );
}

/** Waits until the process of the service answers; `SF_SERVICE` where it has ended for good, `SF_TIMEOUT` where it does not come. */
async function ready({ client, terminal }: Session, manager: Manager): Promise<void> {
  const deadline = performance.now() + readyMs;
  for (;;) {
    try {
      await client().get('/v1/process');
      return;
    } catch (thrown) {
      const error = asSuperfleetError(thrown);
      if (error.code !== 'SF_UNREACHABLE' && error.code !== 'SF_TIMEOUT') throw error;
    }
    const hint = `${manager.logs} says why`;
    if (manager.state().failed) throw endedWith(manager, hint);
    if (performance.now() > deadline) {
      throw new SuperfleetError('SF_TIMEOUT', `${manager.unit} is installed, but not ready yet`, {
        expected: `an answer on its socket within ${readyMs} ms`,
        got: 'none',
        hint: `it is tried again and again; ${hint}`,
      });
    }
    await delay(lookEveryMs, undefined, { signal: terminal.signal }).catch(() =>
      terminal.signal.throwIfAborted(),
    );
  }
}

/** The error its process ended with, as this command's own: a full disk is one here too. */
function endedWith(manager: Manager, hint: string): SuperfleetError {
  const lines = manager.lastLines();
  const at = lines.findLastIndex((line) => ERROR.test(line));
  const [, message, code] = ERROR.exec(lines[at] ?? '') ?? [];
  const what = `${manager.unit} is installed, but what it runs has ended`;
  if (!isErrorCode(code)) return new SuperfleetError('SF_SERVICE', what, { hint });
  const detail = Object.fromEntries(
    lines.slice(at + 1, at + 4).flatMap((line) => {
      const [, name, text] = /^ {2}(expected|got|try): (.*)$/.exec(line) ?? [];
      return name === undefined ? [] : [[name === 'try' ? 'hint' : name, text]];
    }),
  ) as ErrorDetail;
  return new SuperfleetError(code, `${what}: ${message}`, { hint, ...detail });
}
const ERROR = /^error: (.*) \((SF_[A-Z_]+)\)$/;

const about = (manager: Manager) => ({
  manager: manager.absent === null ? manager.name : null,
  scope: manager.scope,
  unit: manager.unit,
  path: manager.path,
  ...status(manager),
  linger: lingers(manager, osUser()),
});

const statusText = (now: ReturnType<typeof about>): string =>
  fields([
    ['service', `${now.unit} (${now.manager ?? 'no manager here'}, ${now.scope})`],
    ['installed', now.installed ? now.path : 'no'],
    ['data folder', now.dir],
    ['starts at boot', now.enabled ? (now.linger === false ? 'at login' : 'yes') : 'no'],
    ['runs', now.active ? `yes, as process ${now.pid}` : now.failed ? 'no: it has failed' : 'no'],
  ]);
