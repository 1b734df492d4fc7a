import type { Entry } from '../../ledger/lines/entry.ts';
import type { MeshObject } from '../../node/api/objects.ts';
import type { ProcessOptions, Running } from '../../node/cli/options.ts';
import type { SuperfleetError } from '../../protocol/errors.ts';
import type { LedgerProgress, LedgerReport } from '../api/port.ts';

export interface InitOptions {
  /** The data folder, absolute; made if absent, `SF_EXISTS` where it holds a mesh already. */
  dir: string;
  /** The mesh's and the founder's name. @default host name */
  name: string | null;
  owner: string | null;
  port: number | null;
  user: string | null;
  /** Where the recovery key is written (0600, never over a file that is there). @default in the current folder */
  recoveryKeyFile: string;
}

/** What `init` made, and where the recovery key lies: to be taken off this machine. */
export interface InitResult {
  mesh: MeshObject;
  recoveryKeyFile: string;
}

export interface JoinRequest {
  name: string;
  code: string;
}
/** How a request ended other than by this doorkeeper's answer. */
export type Gone = 'approved' | 'rejected' | 'expired' | 'left';
/** Carries out what the person says, as `node approve` and `node reject` do. */
export interface Decide {
  approve(): Promise<{ id: string; name: string }>;
  reject(): Promise<void>;
}

/** The person at the founder's own terminal, asked about machines that want to join. */
export interface Doorkeeper {
  /** Who sits there, as the OS named them before any right was given up: the claimed actor of what they say. */
  readonly user: string;
  /** Asks about a request. False: nobody can be asked. */
  asks(join: JoinRequest, decide: Decide): boolean;
  /** A request has ended. False: nobody was asked about it. */
  gone(code: string, why: Gone): boolean;
  /** Writes to the terminal with no question in the way. */
  around(write: () => void): void;
  /** Asks nothing more. */
  close(): void;
}

export interface StartHubOptions extends ProcessOptions {
  /** Null: nobody is asked, and the log says who waits. */
  doorkeeper: Doorkeeper | null;
  /** A restored or copied folder goes on without what its members may still hold (design §3). */
  acceptLoss: { recoveryKeyFile: string } | null;
  /** It may not go on yet, and says why; its socket answers what its log tells. */
  onWaiting(why: SuperfleetError): void;
}

export interface PromoteOptions {
  dir: string;
  user: string | null;
  /** Absolute. */
  recoveryKeyFile: string;
  /** Also where the founder of now answers. */
  force: boolean;
  onNote(line: string): void;
}

/** What `promote` did. */
export interface Promoted {
  mesh: string;
  epoch: number;
  founder: { id: string; name: string };
  size: number;
  root: string;
  /** Members that answered. */
  asked: number;
  /** Entries that came from a replica that held more. */
  taken: number;
  /** Entries that members have seen and nobody who answered holds; what nobody saw is not known. */
  lost: number;
}
export type Promote = (options: PromoteOptions) => Promise<Promoted>;

export type InitHub = (options: InitOptions) => Promise<InitResult>;
/** `start` of `mesh-hub`: resolves when ready; the socket answers from then on. */
export type StartHub = (options: StartHubOptions) => Promise<Running>;

export interface RepairLedgerOptions {
  dir: string;
  user: string | null;
  /** Absolute: the file of an export, or another data folder. */
  from: string;
  /** The result may be shorter than what the damaged log still proves. */
  acceptLoss: boolean;
}
/** What `ledger repair` did. */
export interface RepairedObject {
  mesh: string;
  size: number;
  root: string;
  /** Entries that held here, that came from the source, and that are given up. */
  sound: number;
  taken: number;
  lost: number;
  /** What was wrong; null where the log was only shorter. */
  damage: string | null;
  /** Where the damaged log lies now. */
  kept: string | null;
}
/** Null: there was nothing to repair. */
export type RepairLedger = (options: RepairLedgerOptions) => Promise<RepairedObject | null>;

/** A line of a check of the log: how far it is, or what came of it. */
export type LedgerStep = { progress?: LedgerProgress; report?: LedgerReport };

/** A log as the commands read it: over the founder's socket, or from the files where no founder runs. */
export interface LedgerAccess {
  verify(signal: AbortSignal): AsyncIterable<LedgerStep>;
  size(): Promise<number>;
  entries(from: number, follow: boolean, signal: AbortSignal): AsyncIterable<Entry>;
  export(signal: AbortSignal): AsyncIterable<Uint8Array>;
}

/** The log of a folder in which no founder runs; null where there is none. */
export type OpenStoppedLog = (dir: string) => Promise<LedgerAccess | null>;

export interface ImportLedgerOptions {
  dir: string;
  user: string | null;
  /** Absolute: the file of an export, or another data folder. */
  file: string;
  /** Mesh id that it must be of; null: whatever it is of. */
  mesh: string | null;
}
/** The log that `ledger import` made. */
export interface ImportedObject {
  mesh: string;
  name: string;
  size: number;
  root: string;
  epoch: number;
  dir: string;
}
export type ImportLedger = (options: ImportLedgerOptions) => Promise<ImportedObject>;

export interface BackUpOptions {
  dir: string;
  /** Absolute; a name that is free. */
  file: string;
  /** Entries that the running founder holds to be durable; null: none runs. */
  size: number | null;
  withSecrets: boolean;
  withoutBlobs: boolean;
}
/** What `backup` wrote. */
export interface BackupObject {
  file: string;
  mesh: string;
  size: number;
  root: string;
  bytes: number;
  /** How many; null where they were left out. */
  blobs: number | null;
  secrets: boolean;
}
export type BackUp = (options: BackUpOptions) => Promise<BackupObject>;
/** What `restore` unpacked. */
export interface RestoredObject {
  dir: string;
  mesh: string;
  size: number;
  root: string;
  blobs: number;
  secrets: boolean;
}
export type Restore = (options: {
  dir: string;
  user: string | null;
  file: string;
}) => Promise<RestoredObject>;

export interface ForkOptions {
  dir: string;
  user: string | null;
  /** Of the new mesh and its founder; null: the old one's. */
  name: string | null;
  /** Absolute; a name that is free. */
  recoveryKeyFile: string;
}
/** The mesh that `fork` began. */
export interface ForkedObject {
  mesh: string;
  name: string;
  founder: string;
  size: number;
  root: string;
  parent: { mesh: string; size: number; root: string };
  recoveryKeyFile: string;
}
export type Fork = (options: ForkOptions) => Promise<ForkedObject>;
