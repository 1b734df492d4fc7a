import type { SandboxReport } from '../sandbox/probe.ts';
import type { Ruleset } from './firewall.ts';
import type { MulticastFacts } from './multicast.ts';
import type { Reach } from './reach.ts';
import type { Means } from './repair.ts';

/** What was seen of a machine; what is made of it is the table's business (`table.ts`). A part is null where nobody looked. */
export interface Facts {
  bin: 'mesh-node' | 'mesh-hub';
  /** Version of Node. */
  node: string;
  user: {
    uid: number | null;
    /** Started as root: the account that it drops to. */
    account: string | null;
  };
  sandbox: SandboxReport;
  /** Version of git; null: none in the places where tasks find programs. */
  git: string | null;
  tools: Record<string, string> | null;
  models: { name: string; models: string[] }[] | null;
  folder: {
    path: string;
    /** Why the data folder cannot be written; null: it can. */
    fault: string | null;
  };
  /** Bytes free where the data folder is or would be; null: nobody can tell. */
  diskFreeBytes: number | null;
  /** Wall clock, ms. */
  clock: number;
  multicast: MulticastFacts | null;
  port: PortFacts | null;
  founder: FounderFacts | null;
  firewall: FirewallFacts;
  means: Means;
}

/** The port on which a founder of this machine listens. */
export interface PortFacts {
  port: number;
  fault: string | null;
  /** What answers on it; null: nothing does. */
  holder: Reach | null;
}

/** Where the founder is said to be, and what answered there. */
export interface FounderFacts {
  /** Mesh that it must be of; null: any. */
  mesh: string | null;
  places: Reach[];
}

export interface FirewallFacts {
  /** What manages the rules of this machine, as far as it can be seen. */
  manager: 'ufw' | 'firewalld' | 'nft' | 'iptables' | null;
  /** The rules in force; null: they are root's to read, or there is nothing to read them with. */
  ruleset: Ruleset | null;
}
