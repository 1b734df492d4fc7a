/** Who keeps the service: the machine's own manager as root, or the one of this user. */
export type Scope = 'system' | 'user';
export type Bin = 'mesh-node' | 'mesh-hub';

/** What a service manager is told to run, and when. */
export interface ServiceSpec {
  bin: Bin;
  /** Absolute paths: the program, and the script it runs, if it is a Node. */
  program: string[];
  /** Data folder, absolute. */
  dir: string;
  /** Folders outside the data folder that the process writes. */
  beside: string[];
  /** Flags of `start`. */
  flags: string[];
  scope: Scope;
}

/** What a file of ours says about itself on its marker line. */
export interface Mark {
  bin: Bin;
  dir: string;
}

/** The service of a program, on every manager: `superfleet-node`, `superfleet-hub`. */
export const serviceName = (bin: Bin): string => bin.replace('mesh', 'superfleet');

/** The words a service manager starts; with the data folder said outright, so that no environment decides. */
export const startCommand = ({ program, dir, flags }: ServiceSpec): string[] => [
  ...program,
  '--dir',
  dir,
  'start',
  ...flags,
];

const WORD = 'superfleet-service';

/** The line by which a file is known to be ours, without its comment signs. */
export const markLine = ({ bin, dir }: Mark): string => `${WORD} ${JSON.stringify({ bin, dir })}`;

/** What the marker line in a text says; null: the text is not ours. */
export function readMarkLine(text: string): Mark | null {
  const json = new RegExp(`^(?:# |<!-- )${WORD} (\\{.*\\})(?: -->)?$`, 'm').exec(text)?.[1];
  if (json === undefined) return null;
  try {
    const { bin, dir } = JSON.parse(json) as Partial<Mark>;
    const known = (bin === 'mesh-node' || bin === 'mesh-hub') && typeof dir === 'string';
    return known ? { bin, dir } : null;
  } catch {
    return null;
  }
}
