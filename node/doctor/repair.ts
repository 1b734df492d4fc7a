import { APPARMOR_PROFILE, APPARMOR_PROFILE_PATH } from '../sandbox/probe.ts';

export type Manager = 'apt-get' | 'dnf' | 'pacman' | 'zypper' | 'apk';
export const MANAGERS: readonly Manager[] = ['apt-get', 'dnf', 'pacman', 'zypper', 'apk'];

/** With what this machine could be repaired. */
export interface Means {
  /** Package manager; null: none that is known here. */
  manager: Manager | null;
  /** `root`: is root already. `sudo`: may become it, perhaps by a password. null: cannot. */
  elevate: 'root' | 'sudo' | null;
  /** Package lists were never fetched: without them nothing can be installed. */
  listsMissing: boolean;
  /** A profile for bwrap that somebody put here already; null: none. */
  profile: string | null;
}

/** One command, without a shell. */
export interface Step {
  argv: string[];
  /** What it reads on its standard input. */
  input: string | null;
  /** What comes after works without it too, as a rule. */
  mayFail: boolean;
}

export interface Repair {
  /** Ids of the findings that it mends. */
  findings: string[];
  title: string;
  steps: Step[];
}

/** The package that mends a finding, by its name in all of the distributions. */
const PACKAGES: Readonly<Record<string, string>> = {
  'sandbox/bubblewrap-missing': 'bubblewrap',
  'sandbox/prlimit-missing': 'util-linux',
  'git/missing': 'git',
};

const INSTALL: Readonly<Record<Manager, string[]>> = {
  'apt-get': ['apt-get', 'install', '-y', '--no-install-recommends'],
  dnf: ['dnf', 'install', '-y'],
  pacman: ['pacman', '-S', '--needed', '--noconfirm'],
  zypper: ['zypper', '--non-interactive', 'install'],
  apk: ['apk', 'add'],
};
const REFRESH: Readonly<Record<Manager, string[] | null>> = {
  'apt-get': ['apt-get', 'update'],
  dnf: null,
  pacman: ['pacman', '-Sy'],
  zypper: null,
  apk: ['apk', 'update'],
};

/** Pure: what would mend these findings here, in the order in which it must be done; nothing where there are no means. */
export function repairsFor(findings: readonly string[], means: Means): Repair[] {
  const repairs: Repair[] = [];
  const { manager } = means;
  const lacking = findings.filter((finding) => Object.hasOwn(PACKAGES, finding));
  if (manager !== null && lacking.length > 0) {
    const packages = lacking.map((finding) => PACKAGES[finding] ?? '');
    const refresh = means.listsMissing ? REFRESH[manager] : null;
    repairs.push({
      findings: lacking,
      title: `install ${packages.join(', ')}`,
      steps: [
        ...(refresh === null ? [] : [step(means, refresh, null, true)]),
        step(means, [...INSTALL[manager], ...packages]),
      ],
    });
  }
  if (findings.includes('sandbox/apparmor')) {
    const path = means.profile ?? APPARMOR_PROFILE_PATH;
    repairs.push({
      findings: ['sandbox/apparmor'],
      title: 'let bubblewrap, and nothing else, make user namespaces',
      steps: [
        // One that somebody wrote is theirs: it is loaded, never written over.
        ...(means.profile === null ? [step(means, ['tee', path], APPARMOR_PROFILE)] : []),
        step(means, ['apparmor_parser', '-r', path]),
      ],
    });
  }
  return repairs;
}

const step = (means: Means, argv: string[], input: string | null = null, mayFail = false): Step => ({
  argv: means.elevate === 'root' ? argv : ['sudo', ...argv],
  input,
  mayFail,
});

/** Pure: a step as a person would type it. */
export function typed({ argv, input }: Step): string {
  const words = argv.join(' ');
  return input === null ? words : `${words} >/dev/null <<'END'\n${input}END`;
}

/** Pure: the lines that mend a finding here; null where this program knows none. */
export function repairLines(finding: string, means: Means): string | null {
  const steps = repairsFor([finding], means).flatMap((repair) => repair.steps);
  return steps.length === 0 ? null : steps.map(typed).join('\n');
}
