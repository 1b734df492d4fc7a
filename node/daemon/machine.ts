import { accessSync, constants, existsSync, realpathSync } from 'node:fs';
import { readdir } from 'node:fs/promises';
import { hostname, tmpdir } from 'node:os';
import type { Logger } from 'pino';
import { SuperfleetError } from '../../protocol/errors.ts';
import { memberName } from '../../protocol/ids.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import type { Capacity } from '../../protocol/session.ts';
import { osUser } from '../api/client.ts';
import { LocalAttemptRunner } from '../attempt/run.ts';
import { DiskBlobStore } from '../blobs/disk.ts';
import { type Config, type ConfigChange, ConfigFile, readConfig } from '../config.ts';
import { cachedTools, measureCapacity, memoryOfMachine } from '../doctor/capacity.ts';
import { Environments, type FromFounder } from '../environment/environments.ts';
import { allowedHosts } from '../environment/owner.ts';
import { type Folder, folderPaths, handOverFolder, openFolder } from '../folder.ts';
import { dropPrivileges, resolveAccount } from '../privileges.ts';
import { createSandbox, type SandboxOptions } from '../sandbox/bubblewrap.ts';
import { type CgroupSlots, delegatedCgroups, prepareCgroups } from '../sandbox/limits/cgroup.ts';
import { bindShare } from '../sandbox/limits/share.ts';
import { probe, type SandboxReport } from '../sandbox/probe.ts';
import { SuspendableSandbox } from '../sandbox/suspendable.ts';
import type { Sandbox } from '../sandbox/types.ts';
import type { WorkerOptions } from '../worker/worker.ts';
import { WorkerPool } from '../workers/pool.ts';
import { BatchSigner } from './batch-signer.ts';
import { readOrMakeKey } from './identity.ts';
import { type LogFormat, type LogLevel, openLogger } from './log.ts';

export interface MachineOptions {
  dir: string;
  /** Make the data folder where there is none. */
  create: boolean;
  /** Account to drop to when started as root. */
  user: string | null;
  /** null: what the config file says. */
  logLevel: LogLevel | null;
  logFormat: LogFormat;
  /** What writes a line of the log goes through this. @default at once */
  aroundLog?: (write: () => void) => void;
  /** What the owner gives tasks. @default null: what the config file says */
  cpuWeight?: number | null;
  memoryShare?: string | null;
  /** Folders outside the data folder that the unprivileged user must own, made if missing. */
  beside?: string[];
}

/** What hub and member alike stand on: the data folder, the keys, the sandbox, the blobs. */
export interface Machine {
  folder: Folder;
  readonly config: Config;
  key: SigningKey;
  sandbox: Sandbox;
  /** What it was made with, for a sandbox like it in another process. */
  sandboxOptions: SandboxOptions & { cgroups: CgroupSlots };
  /** The same for all that is done for the mesh. */
  tasks: SuspendableSandbox;
  report: SandboxReport;
  blobs: DiskBlobStore;
  logger: Logger;
  /** What its owner gives tasks of it, and what keeps that. */
  settings: { name: string; says: string }[];
  /** What this machine offers, measured now. */
  measure(overrides: {
    slots: number | null;
    labels: Record<string, string>;
    ownerPaused: boolean;
    seat: boolean;
    lent: string[];
    brains: string[];
    policy: string;
    worksUntil: number | null;
    lends(models: readonly string[]): NonNullable<Capacity['lends']> | null;
  }): Promise<Capacity>;
  /** Writes changed fields of the config. */
  configure(change: ConfigChange): Promise<void>;
  close(): Promise<void>;
}

/**
 * Gives up root for good where it was started as root, and opens the data folder for this process alone. Everything the
 * program needs later must have been imported before: where only root can read it, nothing can be imported after.
 */
export async function openMachine(options: MachineOptions): Promise<Machine> {
  const { dir, create, user, beside = [] } = options;
  if (!create && !existsSync(dir)) {
    throw new SuperfleetError('SF_NOT_FOUND', `there is no data folder at ${dir}`, {
      hint: 'make one with `mesh-hub init` or `mesh-node join`, or name another with --dir',
    });
  }
  // As root: what is no data folder of ours is not given away, whatever --dir says.
  if (process.getuid?.() === 0) await handOverFolder(dir, resolveAccount(user));
  // Only root can have the machine divide its processors. What is wrong with the file is said when it is read for good.
  const said = await readConfig(folderPaths(dir).config).catch(() => null);
  const weight = (options.cpuWeight ?? said?.cpuWeight ?? 100) !== 100;
  let cgroups: CgroupSlots | null = null;
  await dropPrivileges({
    user,
    own: [dir, ...beside],
    prepare: ({ uid, gid }) => {
      cgroups = prepareCgroups(uid, gid, weight);
    },
  });
  requireTemporaryFolder();
  const folder = await openFolder(dir, { create });
  let opening: Promise<DiskBlobStore> | null = null;
  try {
    const file = new ConfigFile(folder.paths.config, await readConfig(folder.paths.config));
    const { config } = file;
    const key = await readOrMakeKey(folder.paths.identityKey);
    const cpuWeight = options.cpuWeight ?? config.cpuWeight;
    const memory = shareOf(options.memoryShare ?? config.memoryShare);
    const bound = bindShare(cgroups ?? delegatedCgroups(), { cpuWeight, memory });
    const { readOnly } = config.environment;
    refuseToShow(readOnly, dir);
    const most = memory === null ? {} : { memoryBytesMax: memory.bytes };
    const sandboxOptions = { readOnly, cpuWeight, cgroups: bound.cgroups, ...most };
    const sandbox = createSandbox(sandboxOptions);
    opening = DiskBlobStore.open(folder.paths.blobs);
    const [report, blobs] = await Promise.all([probe(sandbox), opening]);
    const logger = openLogger(options.logLevel ?? config.logLevel, options.logFormat, options.aroundLog);
    if (blobs.repair !== null)
      logger.warn(
        blobs.repair,
        'the database of small blobs was damaged, or lost what it was told last: what is lost of it is not found from now on',
      );
    for (const lack of report.lacks) logger.warn({ remedy: lack.remedy }, `no tasks run here: ${lack.what}`);
    const machine: Machine = {
      folder,
      get config() {
        return file.config;
      },
      key,
      sandbox,
      sandboxOptions,
      tasks: new SuspendableSandbox(sandbox),
      report,
      blobs,
      logger,
      settings: bound.settings,
      measure: (overrides) => measureCapacity({ dir, report, sandbox, ...most, ...overrides }),
      configure: (change) => file.change(change),
      close: async () => {
        await blobs.close();
        await folder.release();
      },
    };
    return machine;
  } catch (error) {
    await opening?.then(
      (blobs) => blobs.close(),
      () => {},
    );
    await folder.release();
    throw error;
  }
}

/** `50%` of the memory that there is; null: no share is set. */
function shareOf(text: string | null): { percent: number; bytes: number } | null {
  if (text === null) return null;
  const percent = Number.parseInt(text, 10);
  return { percent, bytes: Math.floor((memoryOfMachine() * percent) / 100) };
}

/** The data folder, with the keys in it, is shown to no task. */
function refuseToShow(folders: readonly string[], dir: string): void {
  const data = `${realpathSync(dir)}/`;
  for (const folder of folders.filter((path) => existsSync(path))) {
    const shown = `${realpathSync(folder)}/`;
    if (!data.startsWith(shown) && !shown.startsWith(data)) continue;
    throw new SuperfleetError(
      'SF_USAGE',
      `environment.readOnly: ${folder} would show the data folder to tasks`,
      {
        expected: 'folders of toolchains, apart from the data folder',
        got: folder,
        hint: 'name the folders of the toolchains themselves in config.json',
      },
    );
  }
}

/** TMPDIR is the person's who typed the command; the account that root was given up for may not enter it. */
function requireTemporaryFolder(): void {
  const folder = tmpdir();
  try {
    accessSync(folder, constants.W_OK | constants.X_OK);
  } catch (cause) {
    throw new SuperfleetError('SF_FOLDER', `the folder for temporary files cannot be used: ${folder}`, {
      expected: `a folder that user ${process.getuid?.() ?? osUser()} may write in`,
      got: (cause as NodeJS.ErrnoException).code ?? String(cause),
      hint: 'write TMPDIR=/tmp in front of the command, or let that user into the folder',
      cause,
    });
  }
}

/** The runner of this machine's attempts, whose receipts are signed with its key. */
export async function openRunner(
  machine: Machine,
  mesh: string,
  member: { readonly id: string; readonly name: string },
  ownsBlobs: boolean,
  goals: WorkerOptions,
  environments: Environments,
  slots: () => number,
): Promise<LocalAttemptRunner> {
  const { folder, tasks, blobs, key, logger } = machine;
  const signer = new BatchSigner(key);
  return LocalAttemptRunner.open({
    folder: folder.paths.root,
    sandbox: tasks,
    halts: tasks,
    blobs,
    ownsBlobs,
    // Where a log was ever kept the store has held what the mesh needs, and may still.
    reapsBlobs: ownsBlobs && (await readdir(folder.paths.log)).length === 0,
    mesh,
    member,
    sign: (statement) => signer.sign(statement),
    workers: new WorkerPool({
      sandbox: () => machine.sandboxOptions,
      cache: LocalAttemptRunner.cacheIn(folder.paths.root),
      environments,
      goals,
      idleMax: slots,
      warn: (message, detail) => logger.warn(detail, message),
    }),
  });
}

/** What this machine's tasks depend on; `fromFounder` where another machine is the founder. */
export const openEnvironments = (
  machine: Machine,
  fromFounder: FromFounder | undefined,
): Promise<Environments> =>
  Environments.open({
    folder: machine.folder.paths.environments,
    sandbox: machine.tasks,
    hosts: () => allowedHosts(machine.config.environment),
    versions: () => cachedTools(machine.sandbox),
    ...(fromFounder === undefined ? {} : { fromFounder }),
  });

/** This machine's name in a mesh where none was given: its host name, as far as it can be one. */
export function defaultName(): string {
  const name = hostname()
    .split('.')[0]!
    .replace(/[^A-Za-z0-9._-]+/g, '-')
    .slice(0, 63)
    .replace(/^[^A-Za-z0-9]+|[^A-Za-z0-9]+$/g, '');
  return memberName.safeParse(name).success ? name : 'node';
}

/** Whose machine it is where nobody said: the user who started it. */
export function defaultOwner(env: NodeJS.ProcessEnv = process.env): string {
  // As everything that is recorded as a claim; an account may have no name (a container's bare uid).
  return env.SUDO_USER ?? osUser();
}
