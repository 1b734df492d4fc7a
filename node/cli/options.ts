import type { EnrolledLine, PendingLine, ReadyLine } from '../api/objects.ts';
import type { Stage } from '../daemon/stage.ts';
import type { Estate } from '../replica/source.ts';

/** Given to whoever starts a process of ours: where it lives and as whom. */
export interface ProcessOptions {
  /** The data folder, absolute. */
  dir: string;
  /** Unique in a mesh. @default host name */
  name: string | null;
  /** Inbound TCP port; 0: any free one; null: what the config file or the fixed default says. */
  port: number | null;
  /** Account to drop to when started as root; null: the contract's default. */
  user: string | null;
  /** Lines of the program's log go to stderr at this level; null: what the config file says. */
  logLevel: 'debug' | 'info' | 'warn' | 'error' | null;
  logFormat: 'text' | 'json';
}

/** What a person may say of a member's work when it is started. */
export interface MemberWishes {
  /** Multiaddr of the founder, where the kept addresses are dead. */
  founder: string | null;
  /** Attempts at one time; null: what the config file or the machine says. */
  slots: number | null;
  labels: Record<string, string>;
  /** When to work; null: what the config file says. */
  policy: string | null;
  /** The machine may be kept awake while it works; false: as the config file says. */
  inhibitSleep: boolean;
  /** What tasks get of processor and memory (`50%`); null: what the config file says. */
  cpuWeight: number | null;
  memoryShare: string | null;
}

export interface StartNodeOptions extends ProcessOptions, MemberWishes {}

/** Nothing was said: what the config file says counts. */
export const noWishes: MemberWishes = {
  founder: null,
  slots: null,
  labels: {},
  policy: null,
  inhibitSleep: false,
  cpuWeight: null,
  memoryShare: null,
};

/**
 * The founder's program, for a member that is made the founder. It is given to the node, which knows nothing of it: a
 * founder is made of a node, not the other way round.
 */
export interface FounderProgram {
  /** Folders outside the data folder that a founder needs. */
  beside(dir: string): string[];
  load(): Promise<(stage: Stage) => Promise<ReadyLine>>;
  /** What a former founder's folder still has for the founder of now; null: nothing. */
  estate(dir: string): Promise<Estate | null>;
}

export interface JoinOptions extends StartNodeOptions {
  /** Invite token; null: find founders by mDNS, or ask `founder`. */
  token: string | null;
  /** Which mesh, where several are found; null: the only one. */
  mesh: string | null;
  owner: string | null;
  /** Called once the code is on the screen; its `code` is what the operator types. */
  onPending: (line: PendingLine) => void;
  /** Called with what a person may want to know while a founder is looked for. */
  onNote: (line: string) => void;
}

/** A process that is up. SIGTERM and SIGINT are its own business; `done` settles when it is down:
 * with the exit code, or rejected with the fault that ended it. */
export interface Running {
  ready: ReadyLine;
  done: Promise<number>;
}

/** `start` of `mesh-node`: resolves when ready. */
export type StartNode = (options: StartNodeOptions, program: FounderProgram | null) => Promise<Running>;
/** Enrols (token, or code and approval), then does what `start` does. */
export type JoinMesh = (options: JoinOptions, program: FounderProgram | null) => Promise<Running>;
/** Enrols and ends; where this machine is a member already it says so again. */
export type Enrol = (options: JoinOptions, program: FounderProgram | null) => Promise<EnrolledLine>;
