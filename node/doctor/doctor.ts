import { spawn } from 'node:child_process';
import { createServer } from 'node:net';
import { text } from 'node:stream/consumers';
import { SuperfleetError } from '../../protocol/errors.ts';
import { defaultPort, readConfig } from '../config.ts';
import { folderPaths } from '../folder.ts';
import { dropPrivileges } from '../privileges.ts';
import { createSandbox } from '../sandbox/bubblewrap.ts';
import { probe } from '../sandbox/probe.ts';
import { diskFree } from './capacity.ts';
import type { Facts, FounderFacts, PortFacts } from './facts.ts';
import type { Finding } from './finding.ts';
import { firewallHere, folderFault, gitVersion, meansHere } from './look.ts';
import { modelServers } from './models.ts';
import { type Heard, type MulticastFacts, multicast } from './multicast.ts';
import { type Introduce, type Reach, reach } from './reach.ts';
import { findingsOf } from './table.ts';
import { toolVersions } from './tools.ts';

export interface DoctorOptions {
  bin: 'mesh-node' | 'mesh-hub';
  dir: string;
  /** Where the founder is said to be; null: it is not tried. @default where the config says, once it has joined */
  founders?: string[] | null;
  /** The port that a founder on this machine listens on. @default the config's, else 4701 */
  port?: number | null;
  /** `--user`, where this is started as root. @default the contract's account */
  user?: string | null;
  /**
   * Only what joining and starting rest on: no tools, no models, nobody is asked who he is.
   * @default false
   */
  brief?: boolean;
  /** Listen for mDNS. @default what the config says */
  mdns?: boolean;
}

/** Addresses of one founder that are tried. */
const PLACES_MAX = 16;
/** Hosts heard by mDNS that are asked who they are. */
const ASKED_MAX = 8;
/** A look ends within this: the slowest part asks every tool for its version. */
const LOOK_MS = 90_000;

/** Can this machine work: what was found, and what to do about each lack. Looks and tries, changes nothing. */
export async function examine(options: DoctorOptions, signal?: AbortSignal): Promise<Finding[]> {
  return findingsOf(await factsOf(options, signal));
}

/**
 * The facts of this machine. Root is looked at as the user that the node would become: nothing else would be the truth
 * about it. That needs a process of its own, since whoever gives root up has given it up for good; only what root alone
 * may read or do is looked at here.
 */
export async function factsOf(options: DoctorOptions, signal?: AbortSignal): Promise<Facts> {
  if (process.getuid?.() !== 0) return look(options, signal);
  const [facts, firewall] = await Promise.all([lookApart(options, signal), firewallHere()]);
  return { ...facts, firewall, means: meansHere() };
}

/** What the process that gives root up does: prints the facts as JSON. */
export async function look(options: DoctorOptions, signal?: AbortSignal): Promise<Facts> {
  const { bin, dir, brief = false } = options;
  // Before root is given up: where only root can read the program, nothing can be loaded after.
  const meeting = brief ? null : await import('./introduce.ts');
  const account = await dropPrivileges({ user: options.user ?? null });
  const sandbox = createSandbox();
  // What is wrong with a config is told by whoever starts with it.
  const config = await readConfig(folderPaths(dir).config).catch(() => null);
  const report = await probe(sandbox, signal);
  const places =
    options.founders === undefined ? (config?.founder?.addresses ?? []) : (options.founders ?? []);
  const asking = meeting === null ? null : await meeting.stranger();
  const introduce = asking?.introduce ?? null;
  const port = bin === 'mesh-hub' ? (options.port ?? config?.port ?? defaultPort) : null;
  const mdns = options.mdns ?? config?.mdns ?? true;
  const mesh = config?.mesh ?? null;
  try {
    const [tools, models, heard, portFacts, founder] = await Promise.all([
      brief || !report.works ? null : toolVersions(sandbox, signal),
      brief ? null : modelServers(),
      mdns
        ? multicast(brief ? { listenMs: 0 } : {}).then((facts) =>
            introduce === null ? facts : asked(facts, mesh, introduce),
          )
        : null,
      port === null || port === 0 ? null : portOf(port, introduce, signal),
      places.length === 0 ? null : founderAt(places.slice(0, PLACES_MAX), mesh, introduce, signal),
    ]);
    return {
      bin,
      node: process.versions.node,
      user: { uid: process.getuid?.() ?? null, account: account?.name ?? null },
      sandbox: report,
      git: gitVersion(),
      tools,
      models: models?.map(({ name, models: names }) => ({ name, models: names })) ?? null,
      // As root the folder is made, and given to the account, before anything is written.
      folder: { path: dir, fault: account === null ? folderFault(dir) : null },
      diskFreeBytes: diskFree(dir),
      clock: Date.now(),
      multicast: heard,
      port: portFacts,
      founder,
      firewall: account === null ? await firewallHere() : { manager: null, ruleset: null },
      means: meansHere(),
    };
  } finally {
    await asking?.close();
  }
}

async function founderAt(
  places: string[],
  mesh: string | null,
  introduce: Introduce | null,
  signal?: AbortSignal,
): Promise<FounderFacts> {
  const options = { mesh, introduce, ...(signal === undefined ? {} : { signal }) };
  return { mesh, places: await Promise.all(places.map((place) => reach(place, options))) };
}

/** A founder listens on one fixed port; who has it already is told apart by how he greets. */
export async function portOf(
  port: number,
  introduce: Introduce | null,
  signal?: AbortSignal,
): Promise<PortFacts> {
  const server = createServer();
  const fault = await new Promise<NodeJS.ErrnoException | null>((resolve) => {
    server.once('error', resolve);
    server.listen({ port, host: '0.0.0.0', exclusive: true }, () => resolve(null));
  });
  if (fault === null) await new Promise<void>((resolve) => server.close(() => resolve()));
  const holder: Reach | null =
    fault?.code === 'EADDRINUSE'
      ? await reach(`127.0.0.1:${port}`, {
          mesh: null,
          introduce,
          ...(signal === undefined ? {} : { signal }),
        })
      : null;
  return { port, fault: fault === null ? null : (fault.code ?? fault.message), holder };
}

/** Announcements are claims: whoever made one is asked who he is. */
async function asked(
  { heard, ...rest }: MulticastFacts,
  mesh: string | null,
  introduce: Introduce,
): Promise<MulticastFacts> {
  let asks = 0;
  const told = heard.map(async (one): Promise<Heard> => {
    const { as, peer, addresses } = one;
    if (
      (as !== 'announced' && as !== 'own') ||
      peer === null ||
      addresses.length === 0 ||
      asks >= ASKED_MAX
    ) {
      return one;
    }
    asks += 1;
    const whole = addresses.map((address) =>
      address.includes('/p2p/') ? address : `${address}/p2p/${peer}`,
    );
    const said = await introduce(whole);
    if (typeof said === 'string') return as === 'own' ? one : { ...one, as: said };
    const of = { id: said.mesh, name: said.name };
    return { ...one, as: mesh !== null && mesh !== said.mesh ? 'another-mesh' : 'founder', mesh: of };
  });
  return { ...rest, heard: await Promise.all(told) };
}

/** Runs this program again, to look as somebody else. */
async function lookApart(options: DoctorOptions, signal?: AbortSignal): Promise<Facts> {
  const argv = [...process.execArgv, process.argv[1] ?? '', 'doctor', '--look', JSON.stringify(options)];
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'pipe', 'pipe'] });
  const end = (): void => void child.kill('SIGTERM');
  const timer = setTimeout(end, LOOK_MS);
  signal?.addEventListener('abort', end, { once: true });
  const ended = new Promise<number | null>((resolve) => {
    child.once('close', resolve);
    child.once('error', () => resolve(null));
  });
  const [out, complaint, code] = await Promise.all([text(child.stdout), text(child.stderr), ended]);
  clearTimeout(timer);
  signal?.removeEventListener('abort', end);
  signal?.throwIfAborted();
  if (code === 0) return JSON.parse(out) as Facts;
  throw new SuperfleetError('SF_INTERNAL', 'this machine could not be looked at as an unprivileged user', {
    expected: 'facts of this machine',
    got: complaint.trim().slice(-500) || `exit ${code}`,
    hint: 'run the doctor as an ordinary user',
  });
}
