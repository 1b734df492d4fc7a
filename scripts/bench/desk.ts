/**
 * A member on a machine where somebody sits: it works when idle, and sees terminals of its own, as a machine on which nobody
 * else types has them. The person is a process that types at one of them when it is told to. It needs root.
 */
import { type ChildProcess, spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { descendants, type Fleet } from '../../test/net/fleet.ts';
import { Daemon } from '../../test/net/mesh.ts';
import { OWN_TERMINALS, TYPIST } from '../../test/net/terminals.ts';

/** Nothing that is looked for takes longer. */
const PATIENCE_MS = 60_000;
const LOOK_MS = 5;

export class Desk {
  readonly name: string;
  readonly #person: ChildProcess;
  readonly #said: AsyncIterator<string>;

  private constructor(name: string, person: ChildProcess) {
    this.name = name;
    this.#person = person;
    this.#said = createInterface({ input: person.stdout! })[Symbol.asyncIterator]();
  }

  /** Joins the fleet's mesh with this policy; what is suspended there is ended after `evictMs`. */
  static async join(fleet: Fleet, name: string, policy: string, evictMs: number): Promise<Desk> {
    const person = spawn('unshare', ['--mount', 'sh', '-c', OWN_TERMINALS, 'sh', TYPIST], {
      stdio: ['pipe', 'pipe', 'inherit'],
    });
    const desk = new Desk(name, person);
    try {
      await desk.#expect('sits');
      fleet.configure(name, { evictAfter: `${evictMs}ms` });
      const { token } = await fleet.client.post<{ token: string }>('/v1/invites', {});
      const argv = ['join', token, '--name', name, '--json', '--port', '0', '--policy', policy];
      const daemon = new Daemon(
        [
          ...['nsenter', '--mount', '--target', String(person.pid)],
          ...[join(fleet.program, 'scripts', 'mesh-node'), ...argv],
        ],
        null,
        { MESH_HOME: fleet.dir(name) },
      );
      fleet.daemons.push(daemon);
      fleet.members.set(name, daemon);
      await daemon.event('ready');
      return desk;
    } catch (error) {
      await desk.close();
      throw error;
    }
  }

  /** Somebody presses a key here. */
  async type(): Promise<void> {
    this.#person.stdin!.write('\n');
    await this.#expect('typed');
  }

  async #expect(word: string): Promise<void> {
    const { value } = await this.#said.next();
    if (value !== word) throw new Error(`expected that the person at ${this.name} ${word}; got ${value}`);
  }

  /** After the mesh has closed: its member runs among the person's terminals. */
  async close(): Promise<void> {
    if (this.#person.exitCode !== null) return;
    const gone = once(this.#person, 'close');
    this.#person.stdin!.end();
    await gone;
  }
}

/** Resolves when no process of the tree below this one, itself included, can run: each is stopped, or in a frozen cgroup. */
export async function halted(root: number): Promise<void> {
  const deadline = performance.now() + PATIENCE_MS;
  while (![root, ...descendants(root)].every(halts)) {
    if (performance.now() > deadline) throw new Error(`expected that ${root} and what is below it halt`);
    await delay(LOOK_MS);
  }
}

function halts(pid: number): boolean {
  try {
    const state = readFileSync(`/proc/${pid}/stat`, 'utf8').replace(/^.*\) /s, '')[0];
    if (state === 'T' || state === 'Z') return true;
    const group = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1];
    return group !== undefined && frozen(group);
  } catch {
    // It has ended.
    return true;
  }
}

const MOUNT = readFileSync('/proc/self/mountinfo', 'utf8')
  .split('\n')
  .find((line) => line.includes(' - cgroup2 '))
  ?.split(' ')[4];

function frozen(group: string): boolean {
  if (MOUNT === undefined) return false;
  try {
    return /^frozen 1$/m.test(readFileSync(join(MOUNT, group, 'cgroup.events'), 'utf8'));
  } catch {
    return false;
  }
}
