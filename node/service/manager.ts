import { spawnSync } from 'node:child_process';
import { existsSync, statSync } from 'node:fs';
import { homedir } from 'node:os';
import { isAbsolute, join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { launchdLabel, launchdPlist } from './launchd.ts';
import { systemdUnit } from './systemd.ts';
import { type Bin, type Scope, type ServiceSpec, serviceName } from './types.ts';

/** A start that systemd was asked for, dependencies included, ends within this time. */
const COMMAND_MS = 120_000;
/** Lines in which the error that ended a process is looked for. */
const LINES = 40;

/** What this machine has for a service manager. */
export interface ServiceHost {
  platform: string;
  uid: number | null;
  /** Folder of this user's settings, as XDG has it. */
  configHome: string;
  home: string;
  /** systemd is the init of this machine, as sd_booted(3) tells. */
  booted: boolean;
  run(argv: string[]): Ran;
}
export interface Ran {
  /** null: there is no such program, or it did not end in time. */
  code: number | null;
  stdout: string;
  stderr: string;
}

/** What a manager says about a service. */
export interface ServiceState {
  /** Comes up by itself. */
  enabled: boolean;
  active: boolean;
  /** It ended with a fault; it may be tried again. */
  failed: boolean;
  pid: number | null;
}

/** One service under one manager; what changes something throws `SF_SERVICE` with the manager's own words. */
export interface Manager {
  readonly name: 'systemd' | 'launchd';
  readonly scope: Scope;
  /** As its manager calls the service. */
  readonly unit: string;
  /** File that describes it. */
  readonly path: string;
  /** A command with which a person sees what the service said. */
  readonly logs: string;
  /** Why this machine's manager can't be asked for anything; null: it can. */
  readonly absent: string | null;
  text(spec: ServiceSpec): string;
  state(): ServiceState;
  /** The end of what the service said, where the manager keeps it. */
  lastLines(): string[];
  /** The file was written, changed or removed. */
  reload(): void;
  enable(): void;
  start(): void;
  enableAndStart(): void;
  restart(): void;
  disableAndStop(): void;
}

/** This machine as it is. */
export function thisHost(env: Record<string, string | undefined> = process.env): ServiceHost {
  const home = env.HOME ?? homedir();
  const xdg = env.XDG_CONFIG_HOME;
  return {
    platform: process.platform,
    uid: process.getuid?.() ?? null,
    configHome: xdg !== undefined && isAbsolute(xdg) ? xdg : join(home, '.config'),
    home,
    booted: statSync('/run/systemd/system', { throwIfNoEntry: false })?.isDirectory() ?? false,
    run: ([file = '', ...args]) => {
      const done = spawnSync(file, args, {
        env: { ...env, SYSTEMD_COLORS: '0', SYSTEMD_PAGER: '', LC_ALL: 'C' } as NodeJS.ProcessEnv,
        stdio: ['ignore', 'pipe', 'pipe'],
        encoding: 'utf8',
        timeout: COMMAND_MS,
      });
      return { code: done.status, stdout: done.stdout ?? '', stderr: done.stderr ?? '' };
    },
  };
}

/** The manager that a service of `bin` would have here: launchd on macOS, systemd anywhere else. */
export function managerOf(bin: Bin, host: ServiceHost): Manager {
  return host.platform === 'darwin' ? launchd(bin, host) : systemd(bin, host);
}

const scopeOf = ({ uid }: ServiceHost): Scope => (uid === 0 ? 'system' : 'user');

function systemd(bin: Bin, host: ServiceHost): Manager {
  const scope = scopeOf(host);
  const user = scope === 'user' ? ['--user'] : [];
  const unit = `${serviceName(bin)}.service`;
  const folder = scope === 'system' ? '/etc/systemd/system' : join(host.configHome, 'systemd', 'user');
  const version = (): number | null => {
    const said = /^systemd (\d+)/.exec(host.run(['systemctl', '--version']).stdout)?.[1];
    return said === undefined ? null : Number(said);
  };
  const tell = (...words: string[]): void => must(host, ['systemctl', ...user, ...words]);
  return {
    name: 'systemd',
    scope,
    unit,
    path: join(folder, unit),
    logs: `journalctl ${scope === 'user' ? '--user ' : ''}-u ${unit}`,
    absent: lackOfSystemd(host),
    text: (spec) => systemdUnit(spec, version()),
    state: () => {
      const wanted = '--property=ActiveState,SubState,UnitFileState,MainPID';
      const said = host.run(['systemctl', ...user, 'show', wanted, unit]).stdout;
      const value = (name: string): string => new RegExp(`^${name}=(.*)$`, 'm').exec(said)?.[1] ?? '';
      const pid = Number(value('MainPID'));
      return {
        enabled: value('UnitFileState') === 'enabled',
        active: value('ActiveState') === 'active',
        failed: value('ActiveState') === 'failed' || value('SubState').startsWith('auto-restart'),
        pid: pid > 0 ? pid : null,
      };
    },
    lastLines: () =>
      host
        .run([
          'journalctl',
          ...user,
          '--unit',
          unit,
          '--lines',
          String(LINES),
          '--output',
          'cat',
          '--no-pager',
        ])
        .stdout.split('\n'),
    reload: () => tell('daemon-reload'),
    enable: () => tell('enable', unit),
    start: () => tell('start', unit),
    enableAndStart: () => tell('enable', '--now', unit),
    restart: () => tell('restart', unit),
    disableAndStop: () => tell('disable', '--now', unit),
  };
}

function lackOfSystemd({ platform, booted, run }: ServiceHost): string | null {
  if (platform !== 'linux') return `${platform} has neither systemd nor launchd`;
  if (!booted) return 'systemd is not the init of this machine';
  return run(['systemctl', '--version']).code === 0 ? null : 'systemctl does not run here';
}

/** Untested on a Mac. */
function launchd(bin: Bin, host: ServiceHost): Manager {
  const scope = scopeOf(host);
  const label = launchdLabel(bin);
  const domain = scope === 'system' ? 'system' : `gui/${host.uid}`;
  const folder = scope === 'system' ? '/Library/LaunchDaemons' : join(host.home, 'Library', 'LaunchAgents');
  const path = join(folder, `${label}.plist`);
  const start = (): void => must(host, ['launchctl', 'bootstrap', domain, path]);
  const stop = (): void => must(host, ['launchctl', 'bootout', `${domain}/${label}`]);
  return {
    name: 'launchd',
    scope,
    unit: label,
    path,
    logs: 'the file DIR.log beside the data folder',
    absent: null,
    text: launchdPlist,
    state: () => {
      const said = host.run(['launchctl', 'print', `${domain}/${label}`]);
      const pid = Number(/^\s*pid = (\d+)$/m.exec(said.stdout)?.[1] ?? 0);
      // What is bootstrapped from these folders comes up by itself.
      return { enabled: said.code === 0, active: pid > 0, failed: false, pid: pid > 0 ? pid : null };
    },
    lastLines: () => [],
    reload: () => {},
    enable: () => {},
    start,
    enableAndStart: start,
    restart: () => {
      stop();
      start();
    },
    disableAndStop: stop,
  };
}

function must(host: ServiceHost, argv: string[]): void {
  const { code, stderr, stdout } = host.run(argv);
  if (code === 0) return;
  const said = (stderr.trim() || stdout.trim()).slice(0, 2000);
  throw new SuperfleetError('SF_SERVICE', `${argv.join(' ')} failed`, {
    expected: 'exit 0',
    got: `${code === null ? 'it did not run to its end' : `exit ${code}`}${said === '' ? '' : `: ${said}`}`,
  });
}

/** Whether this user's services run without a login; null where that is no question. */
export function lingers(manager: Manager, user: string | null): boolean | null {
  if (manager.name !== 'systemd' || manager.scope !== 'user' || user === null) return null;
  return existsSync(join('/var/lib/systemd/linger', user));
}
