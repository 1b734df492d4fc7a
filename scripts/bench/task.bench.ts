/**
 * A task from the moment it is submitted to the branch in the repository, executed by one member and verified by
 * another, against a shell script that does the same steps on the same machine as the same user. `docs/benchmarks.md`
 * says what each side does that the other does not.
 */
import { execFileSync, spawn } from 'node:child_process';
import { once } from 'node:events';
import { copyFileSync, mkdirSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { resolveAccount } from '../../node/privileges.ts';
import { seccompProgram } from '../../node/sandbox/seccomp.ts';
import { alternate, type Benchmark, type Figure } from './figures.ts';
import { commit, makeRepository, OurMesh } from './task-ours.ts';
import { phaseFigures, phasesOf, phaseTable } from './task-phases.ts';

/** What is done in the sandbox: a second of work by the clock, and next to nothing. Both change the work tree. */
const TASKS = {
  empty: { argv: ['touch', 'empty.txt'], check: 'true', runs: 9 },
  busy: {
    argv: ['sh', '-c', 'timeout 1 sh -c "while :; do :; done"; echo done >work.txt'],
    check: 'grep -q done work.txt',
    runs: 5,
  },
} as const;
type Kind = keyof typeof TASKS;

export const benchmark: Benchmark = async (say) => {
  const ours = new OurMesh();
  try {
    await ours.start();
    const repository = ours.mesh.dir('repository');
    mkdirSync(repository);
    await makeRepository(repository);
    const peer = new Peer(ours.mesh.dir('peer'));
    await peer.prepare();
    const figures: Figure[] = [];
    const phases = new Map<Kind, Map<string, number>[]>();
    for (const kind of ['busy', 'empty'] as const) {
      const { argv, check, runs } = TASKS[kind];
      const spread = { ours: [] as number[], peer: [] as number[] };
      const seen: Map<string, number>[] = [];
      let number = 0;
      const run = async (): Promise<number> => {
        await commit(repository, `${kind} ${++number}`);
        const { ms, task, moments } = await ours.run(repository, [...argv], check);
        const marks = new Map(ours.marks(task.id).map(({ step, at }) => [step, at]));
        seen.push(phasesOf(moments.get('began')!, (moment) => moments.get(moment) ?? marks.get(moment)));
        await ours.settled();
        spread.ours.push(ms);
        return ms;
      };
      const script = async (): Promise<number> => {
        const ms = await peer.run(`${kind}-${number}`, [...argv], check);
        spread.peer.push(ms);
        return ms;
      };
      figures.push(await alternate(`task.${kind}`, 'ms', runs, run, script));
      phases.set(kind, seen.slice(1));
      for (const [side, values] of Object.entries(spread))
        say(`task.${kind} ${side}: ${words(values.slice(1))}`);
    }
    for (const line of phaseTable(phases)) say(line);
    return [...figures, ...phaseFigures(phases.get('empty')!)];
  } finally {
    await ours.close();
  }
};

const words = (values: number[]): string => {
  const sorted = [...values].sort((a, b) => a - b).map((ms) => ms.toFixed(0));
  return `${sorted[0]} to ${sorted.at(-1)} ms (${values.map((ms) => ms.toFixed(0)).join(' ')})`;
};

/** The script, as the user that the members of a mesh run as. */
class Peer {
  readonly #folder: string;
  readonly #repository: string;
  readonly #user: { uid?: number; gid?: number };
  #known = '';

  constructor(folder: string) {
    this.#folder = folder;
    this.#repository = join(folder, 'repository');
    const account = process.getuid?.() === 0 ? resolveAccount(null) : null;
    this.#user = account === null ? {} : { uid: account.uid, gid: account.gid };
  }

  async prepare(): Promise<void> {
    mkdirSync(this.#repository, { recursive: true });
    await makeRepository(this.#repository);
    const filter = seccompProgram(process.arch);
    if (filter !== null) writeFileSync(join(this.#folder, 'filter'), filter);
    // Where the program lies, that user may not be able to read.
    copyFileSync(join(import.meta.dirname, 'task-peer.sh'), join(this.#folder, 'task-peer.sh'));
    const { uid, gid } = this.#user;
    if (uid !== undefined) execFileSync('chown', ['-R', `${uid}:${gid}`, this.#folder]);
    this.#known = await this.#git('rev-parse', 'HEAD');
    await this.#script('prepare', 'none', this.#known, 'true', []);
  }

  /** Milliseconds of one run; what is cleared away after it does not count. */
  async run(name: string, argv: string[], check: string): Promise<number> {
    await this.#sh(['sh', '-c', `echo ${name} >NOTES`]);
    await this.#git('commit', '-qam', name);
    const base = await this.#git('rev-parse', 'HEAD');
    const began = performance.now();
    await this.#script('run', name, base, check, argv);
    const ms = performance.now() - began;
    await this.#git('rev-parse', '--verify', '--quiet', `mesh/${name}`);
    await this.#script('clean', name, base, check, []);
    this.#known = base;
    return ms;
  }

  #script(verb: string, name: string, base: string, check: string, argv: string[]): Promise<string> {
    const script = join(this.#folder, 'task-peer.sh');
    return this.#sh([
      'sh',
      script,
      verb,
      this.#folder,
      this.#repository,
      name,
      this.#known,
      base,
      check,
      ...argv,
    ]);
  }

  #git(...args: string[]): Promise<string> {
    return this.#sh(['git', '-c', 'gc.auto=0', ...args]);
  }

  async #sh([file, ...args]: string[]): Promise<string> {
    const who = { NAME: 'Bench', EMAIL: 'bench@example.invalid' };
    const identity = Object.entries(who).flatMap(([what, text]) =>
      ['AUTHOR', 'COMMITTER'].map((role) => [`GIT_${role}_${what}`, text]),
    );
    const child = spawn(file!, args, {
      cwd: this.#repository,
      ...this.#user,
      env: {
        PATH: process.env.PATH,
        HOME: '/nonexistent',
        GIT_CONFIG_GLOBAL: '/dev/null',
        GIT_CONFIG_NOSYSTEM: '1',
        ...Object.fromEntries(identity),
      },
      stdio: ['ignore', 'pipe', 'pipe'],
    });
    let out = '';
    let err = '';
    child.stdout!.on('data', (bytes: Buffer) => (out += bytes));
    child.stderr!.on('data', (bytes: Buffer) => (err += bytes));
    const [code] = (await once(child, 'close')) as [number | null];
    if (code !== 0) throw new Error(`${[file, ...args].join(' ')}: exit ${code}\n${err}`);
    return out.trim();
  }
}
