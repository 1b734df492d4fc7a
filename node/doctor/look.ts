import { spawn, spawnSync } from 'node:child_process';
import { accessSync, constants, existsSync, readdirSync, readFileSync } from 'node:fs';
import { delimiter, dirname } from 'node:path';
import { text } from 'node:stream/consumers';
import { findProgram } from '../sandbox/host.ts';
import { APPARMOR_PROFILE_PATH } from '../sandbox/probe.ts';
import type { FirewallFacts } from './facts.ts';
import { fromIptables, type Ruleset } from './firewall.ts';
import { MANAGERS, type Manager, type Means } from './repair.ts';

// Looks at files and asks small programs of the distribution; decides nothing.

const ASK_MS = 5_000;
/** Rules of a machine with many containers; more is not read. */
const RULES_BYTES_MAX = 32 * 1024 * 1024;

/** Version of git where tasks find programs. */
export function gitVersion(): string | null {
  const path = findProgram('git');
  if (path === null) return null;
  const { stdout } = spawnSync(path, ['--version'], { env: {}, encoding: 'utf8', timeout: ASK_MS });
  return /(\d+\.\d+(?:\.\d+)*)/.exec(stdout ?? '')?.[1] ?? null;
}

/** Why a data folder cannot be written or made here; null: it can. */
export function folderFault(path: string): string | null {
  for (let at = path; ; at = dirname(at)) {
    if (existsSync(at)) {
      try {
        accessSync(at, constants.W_OK | constants.X_OK);
        return null;
      } catch (thrown) {
        const { code } = thrown as NodeJS.ErrnoException;
        const why = { EROFS: 'the file system is read-only', EACCES: 'this user may not write there' }[
          code ?? ''
        ];
        return why ?? code ?? 'it cannot be written';
      }
    }
    if (at === dirname(at)) return null;
  }
}

/** With what this machine could be repaired by whoever runs this. Programs are looked for on their PATH. */
export function meansHere(env: NodeJS.ProcessEnv = process.env): Means {
  const manager = MANAGERS.find((name) => onPath(name, env)) ?? null;
  const root = process.getuid?.() === 0;
  return {
    manager,
    elevate: root ? 'root' : onPath('sudo', env) ? 'sudo' : null,
    listsMissing: manager !== null && listsMissing(manager),
    profile: bwrapProfile(),
  };
}

function onPath(name: string, env: NodeJS.ProcessEnv): boolean {
  return `${env.PATH ?? ''}${delimiter}/usr/sbin${delimiter}/sbin`
    .split(delimiter)
    .some((folder) => folder !== '' && isExecutable(`${folder}/${name}`));
}

function isExecutable(path: string): boolean {
  try {
    accessSync(path, constants.X_OK);
    return true;
  } catch {
    return false;
  }
}

const LISTS: Readonly<Partial<Record<Manager, { folder: string; holds: RegExp }>>> = {
  'apt-get': { folder: '/var/lib/apt/lists', holds: /_Packages/ },
  pacman: { folder: '/var/lib/pacman/sync', holds: /\.db$/ },
  apk: { folder: '/var/cache/apk', holds: /^APKINDEX/ },
};

function listsMissing(manager: Manager): boolean {
  const lists = LISTS[manager];
  if (lists === undefined) return false;
  try {
    return !readdirSync(lists.folder).some((name) => lists.holds.test(name));
  } catch {
    return true;
  }
}

/** A profile for bwrap that lies here already, whoever wrote it. */
function bwrapProfile(): string | null {
  const places = [
    APPARMOR_PROFILE_PATH,
    '/etc/apparmor.d/bwrap-userns-restrict',
    '/etc/apparmor.d/usr.bin.bwrap',
  ];
  return places.find((path) => existsSync(path)) ?? null;
}

/** What manages this machine's rules and, where they may be read, the rules. */
export async function firewallHere(): Promise<FirewallFacts> {
  const ruleset = await rules();
  const asks = (ruleset?.nftables.length ?? 0) > 0;
  if (/^ENABLED=yes/m.test(textOf('/etc/ufw/ufw.conf') ?? '') && findProgram('ufw') !== null) {
    return { manager: 'ufw', ruleset };
  }
  if (findProgram('firewall-cmd') !== null && runs('firewalld')) return { manager: 'firewalld', ruleset };
  const iptables = findProgram('iptables') !== null;
  // Rules that iptables made lie in its own table, in chains that nft only shows.
  const chains =
    ruleset?.nftables.map(({ chain }) => chain as { table?: string; name?: string } | undefined) ?? [];
  if (iptables && chains.some((chain) => chain?.table === 'filter' && chain.name === 'INPUT')) {
    return { manager: 'iptables', ruleset };
  }
  if (asks || (ruleset === null && existsSync('/etc/nftables.conf') && findProgram('nft') !== null)) {
    return { manager: 'nft', ruleset };
  }
  return { manager: null, ruleset };
}

async function rules(): Promise<Ruleset | null> {
  const nft = findProgram('nft');
  if (nft !== null) {
    const said = await ask(nft, ['-j', 'list', 'ruleset']);
    const ruleset = said === null ? null : rulesetOf(said);
    if (ruleset !== null) return ruleset;
  }
  const iptables = findProgram('iptables');
  const said = iptables === null ? null : await ask(iptables, ['-S']);
  return said === null ? null : fromIptables(said);
}

function rulesetOf(said: string): Ruleset | null {
  try {
    const value = JSON.parse(said) as Partial<Ruleset>;
    if (!Array.isArray(value.nftables)) return null;
    return { nftables: value.nftables.filter((item) => !('metainfo' in item)) };
  } catch {
    return null;
  }
}

/** What a program says; null where it fails, or says too much, or nothing within the time. */
async function ask(path: string, args: string[]): Promise<string | null> {
  const child = spawn(path, args, { env: { LC_ALL: 'C' }, stdio: ['ignore', 'pipe', 'ignore'] });
  const timer = setTimeout(() => child.kill('SIGKILL'), ASK_MS);
  let bytes = 0;
  child.stdout.on('data', (chunk: Buffer) => {
    bytes += chunk.length;
    if (bytes > RULES_BYTES_MAX) child.kill('SIGKILL');
  });
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', resolve);
    child.once('error', () => resolve(null));
  });
  const [said, code] = await Promise.all([text(child.stdout).catch(() => ''), ended]);
  clearTimeout(timer);
  return code === 0 ? said : null;
}

/** A process of this name runs; what we may not look at does not. */
function runs(name: string): boolean {
  if (process.platform !== 'linux') return false;
  return readdirSync('/proc').some(
    (pid) => /^\d+$/.test(pid) && textOf(`/proc/${pid}/comm`)?.trim() === name,
  );
}

function textOf(path: string): string | null {
  try {
    return readFileSync(path, 'utf8');
  } catch {
    return null;
  }
}
