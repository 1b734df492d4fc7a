import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { appendFileSync, closeSync, openSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { bareBeside, TemporaryFolder } from '../submit/temporary.ts';
import type { ForeignRepository } from './foreign-repository.ts';

/** No git command of ours on foreign objects takes longer: a pipe that poses as an object would make it wait for ever. */
const gitMs = 10 * 60_000;
const outputBytesMax = 64 * 1024 * 1024;
const saidBytesMax = 8 * 1024;

/** Nothing but objects is taken from the repository: no list of it that git would believe unseen. */
const CONFIG = `[core]
\tcommitGraph = false
\tmultiPackIndex = false
\tfsmonitor = false
\thooksPath = /dev/null
[pack]
\tuseBitmaps = false
\tthreads = 1
[gc]
\tauto = 0
`;

/** Git said no. */
export class GitRefused extends Error {}

/**
 * A bare repository of our own that sees a foreign one's objects and has its refs. Git runs in it alone: nothing in the
 * foreign repository can have a program run, replace an object or graft a history.
 */
export class Mirror {
  readonly #folder = new TemporaryFolder();
  readonly #signal: AbortSignal | undefined;
  readonly #env: Record<string, string>;

  constructor(repository: ForeignRepository, path: string | undefined, signal?: AbortSignal) {
    const bare = join(this.#folder.path, 'mirror.git');
    bareBeside(bare, repository, null);
    appendFileSync(join(bare, 'config'), CONFIG);
    const refs = [...repository.refs].map(([name, id]) => `${id} ${name}\n`);
    writeFileSync(join(bare, 'packed-refs'), refs.join(''));
    const head = repository.head ?? 'refs/heads/none';
    writeFileSync(join(bare, 'HEAD'), head.startsWith('refs/') ? `ref: ${head}\n` : `${head}\n`);
    if (repository.shallow.length > 0) {
      writeFileSync(join(bare, 'shallow'), `${repository.shallow.join('\n')}\n`);
    }
    this.#signal = signal;
    this.#env = {
      PATH: path ?? '/usr/local/bin:/usr/bin:/bin',
      HOME: '/nonexistent',
      LC_ALL: 'C',
      GIT_DIR: bare,
      GIT_CONFIG_GLOBAL: '/dev/null',
      GIT_CONFIG_NOSYSTEM: '1',
      GIT_ATTR_NOSYSTEM: '1',
      GIT_NO_REPLACE_OBJECTS: '1',
      GIT_NO_LAZY_FETCH: '1',
      GIT_TERMINAL_PROMPT: '0',
      GIT_OPTIONAL_LOCKS: '0',
    };
  }

  /** What git prints, as bytes of at most 64 MiB. Throws `GitRefused` where it says no. */
  async bytes(args: string[], stdin = ''): Promise<Buffer> {
    const chunks: Buffer[] = [];
    let length = 0;
    await this.#run(args, stdin, null, (chunk) => {
      length += chunk.length;
      if (length > outputBytesMax) throw new GitRefused(`git ${args[0]} says too much`);
      chunks.push(chunk);
    });
    return Buffer.concat(chunks);
  }

  async text(args: string[]): Promise<string> {
    return (await this.bytes(args)).toString('utf8').trim();
  }

  /** The first line of what git prints; null where it says no or nothing. */
  async find(args: string[]): Promise<string | null> {
    try {
      return (await this.text(args)).split('\n')[0] || null;
    } catch (thrown) {
      if (thrown instanceof GitRefused) return null;
      throw thrown;
    }
  }

  commit(revision: string): Promise<string | null> {
    return this.find(['rev-parse', '--verify', '--quiet', '--end-of-options', `${revision}^{commit}`]);
  }

  /**
   * Whether the commit, its whole tree and these further commits are what their ids say: they are packed anew, and the ids
   * worked out from the bytes. Git itself believes the files of a repository it was not sent.
   */
  async isGenuine(commit: string, further: readonly string[]): Promise<boolean> {
    const listed = await this.text(['rev-list', '--objects', '--no-object-names', '--max-count=1', commit]);
    const wanted = new Set([...listed.split('\n'), ...further]);
    const pack = join(this.#folder.path, 'p.pack');
    const index = join(this.#folder.path, 'p.idx');
    await this.#run(['pack-objects', '--stdout', '-q'], `${[...wanted].join('\n')}\n`, pack, null);
    await this.#run(['index-pack', '-o', index, pack], '', null, null);
    const input = openSync(index, 'r');
    const found = new Set<string>();
    try {
      let rest = '';
      await this.#run(['show-index'], input, null, (chunk) => {
        const lines = (rest + chunk.toString('latin1')).split('\n');
        rest = lines.pop() ?? '';
        for (const line of lines) found.add(line.split(' ')[1] ?? '');
      });
    } finally {
      closeSync(input);
    }
    return found.size === wanted.size && [...wanted].every((id) => found.has(id));
  }

  async #run(
    args: string[],
    stdin: string | number,
    into: string | null,
    onOutput: ((chunk: Buffer) => void) | null,
  ): Promise<void> {
    const target = into === null ? null : openSync(into, 'w', 0o600);
    try {
      const child = spawn('git', ['--no-replace-objects', '--no-pager', ...args], {
        cwd: this.#folder.path,
        env: this.#env,
        stdio: [typeof stdin === 'number' ? stdin : 'pipe', target ?? 'pipe', 'pipe'],
        timeout: gitMs,
        ...(this.#signal && { signal: this.#signal }),
      });
      let said = '';
      let fault: unknown = null;
      child.stderr!.on('data', (words: Buffer) => {
        said = (said + words.toString('utf8')).slice(-saidBytesMax);
      });
      child.stdout?.on('data', (chunk: Buffer) => {
        try {
          onOutput?.(chunk);
        } catch (thrown) {
          fault = thrown;
          child.kill('SIGKILL');
        }
      });
      child.stdin?.on('error', () => {}); // It ended before it read all; its end says why.
      if (typeof stdin === 'string') child.stdin?.end(stdin);
      const [code] = (await once(child, 'close').catch((thrown: unknown) => {
        if (this.#signal?.aborted === true) throw this.#signal.reason;
        throw new SuperfleetError('SF_REPOSITORY', 'git cannot be run', {
          expected: 'git on the PATH',
          got: String(thrown),
          cause: thrown,
        });
      })) as [number | null];
      if (fault !== null) throw fault;
      if (code !== 0) throw new GitRefused(said.trim().split('\n').at(-1) || `git ended with ${code}`);
    } finally {
      if (target !== null) closeSync(target);
    }
  }

  [Symbol.dispose](): void {
    this.#folder[Symbol.dispose]();
  }
}
