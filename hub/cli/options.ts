import type { MeshObject } from '../../node/api/objects.ts';
import type { ProcessOptions, Running } from '../../node/cli/options.ts';

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

export interface StartHubOptions extends ProcessOptions {
  /** A restored or copied folder goes on without what its members may still hold (design §3). */
  acceptLoss: boolean;
}

export type InitHub = (options: InitOptions) => Promise<InitResult>;
/** `start` of `mesh-hub`: resolves when ready; the socket answers from then on. */
export type StartHub = (options: StartHubOptions) => Promise<Running>;
