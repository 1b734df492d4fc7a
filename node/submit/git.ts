import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { existsSync } from 'node:fs';
import { simpleGit } from 'simple-git';
import { SuperfleetError } from '../../protocol/errors.ts';

/**
 * Git on the submitter's own repository, which is trusted as every git command they type trusts it. What came from a
 * member is only ever a bundle file here: its bytes go through `quarantine.ts` first.
 */
export type Git = (args: string[]) => Promise<string>;

/** Git said no: its exit code, its words, and what it had answered until then where that was asked for. */
export class GitFailed extends Error {
  readonly exitCode: number;
  readonly stderr: string;
  readonly stdout: string;

  constructor(exitCode: number, stderr: string, stdout = '') {
    super(stderr.trim().split('\n').slice(-3).join(' ') || `git ended with ${exitCode}`);
    this.exitCode = exitCode;
    this.stderr = stderr;
    this.stdout = stdout;
  }
}

/** What git may know of the surroundings: identity and place, and nothing that names another repository. */
const KEPT = ['PATH', 'HOME', 'XDG_CONFIG_HOME', 'USER', 'LOGNAME', 'TMPDIR'];
/** What a signing program needs to find its key and to ask for its passphrase. */
const SIGNING = ['GNUPGHOME', 'GPG_TTY', 'SSH_AUTH_SOCK', 'XDG_RUNTIME_DIR', 'DISPLAY', 'WAYLAND_DISPLAY'];
const IDENTITY = ['GIT_AUTHOR_NAME', 'GIT_AUTHOR_EMAIL', 'GIT_COMMITTER_NAME', 'GIT_COMMITTER_EMAIL'];
const FIXED = {
  LC_ALL: 'C',
  GIT_TERMINAL_PROMPT: '0',
  GIT_OPTIONAL_LOCKS: '0',
  // Replaced objects are this clone's affair: what is sent is what everybody else has.
  GIT_NO_REPLACE_OBJECTS: '1',
};

/** Nothing of the repository runs by itself: no hook (an in-tree hooks folder could be a task's), no monitor, no collection. */
const QUIET = [
  'core.hooksPath=/dev/null',
  'core.fsmonitor=false',
  'gc.auto=0',
  'maintenance.auto=false',
  'submodule.recurse=false',
  'fetch.recurseSubmodules=false',
  'fetch.writeCommitGraph=false',
  'transfer.fsckObjects=true',
  'fetch.fsckObjects=true',
  'advice.detachedHead=false',
];

/** No git command of ours is silent for longer. */
const silentMs = 10 * 60_000;

export function gitIn(folder: string, env: Record<string, string | undefined>, signal?: AbortSignal): Git {
  if (!existsSync(folder)) throw notThere(folder);
  const kept = keptOf(env);
  return async (args) => {
    // The library wraps what goes wrong in an error of its own that has lost the exit code.
    let failed: GitFailed | null = null;
    const git = simpleGit({
      baseDir: folder,
      config: QUIET,
      allowEnvironment: [...IDENTITY, ...Object.keys(FIXED)],
      unsafe: { allowUnsafeHooksPath: true, allowUnsafeFsMonitor: true },
      timeout: { block: silentMs },
      // Its answer is whole when its streams have closed. By default the library takes what is there 50 ms after the exit.
      completion: { onClose: true, onExit: false },
      ...(signal === undefined ? {} : { abort: signal }),
      errors: (error, { exitCode, stdErr }) => {
        // Without an exit code git did not run, or was ended.
        if (!(exitCode > 0)) return error;
        failed = new GitFailed(exitCode, Buffer.concat(stdErr).toString('utf8'));
        return failed;
      },
    })
      .env({ ...kept, ...FIXED })
      // The library gives a command that said nothing 50 ms more to say it, though its streams have closed.
      .outputHandler((_command, _stdout, stderr) => {
        setImmediate(() => stderr.emit('data', Buffer.alloc(0)));
      });
    try {
      return await git.raw(args);
    } catch (thrown) {
      if (signal?.aborted === true) throw signal.reason;
      if (failed !== null) throw failed;
      if (/ENOENT/.test(String(thrown))) {
        throw new SuperfleetError('SF_REPOSITORY', 'git cannot be run', {
          expected: 'git on the PATH',
          got: String(thrown),
          hint: 'install git, or use --no-repo',
          cause: thrown,
        });
      }
      throw thrown;
    }
  };
}

/** A pack of the largest size is read or written within this on a slow machine. */
const streamsMs = 60 * 60_000;
/** Of what git says the end is kept. */
const saidCharactersMax = 16 * 1024;

/** What a git command of ours is given on stdin and where its stdout goes, which the library cannot do. */
export interface Streams {
  /** An open file, read from where it stands, or a text. */
  stdin: number | string;
  /** An open file; null: it is not looked at; `text`: it is the answer. */
  stdout: number | null | 'text';
  /** More of git's environment: another index or object folder, an identity. */
  more?: Record<string, string>;
  /** Ctrl-C at the terminal does not reach it, and no time-out ends it: for what must not be half done. */
  uninterrupted?: boolean;
  /** Told what git says on stderr as it comes. */
  onSaid?(words: string): void;
}

/** One git command with streams of its own. Answers stdout where it is asked for as text. Throws as `gitIn`'s commands do. */
export async function gitWith(
  streams: Streams,
  folder: string,
  args: string[],
  env: Record<string, string | undefined>,
  signal?: AbortSignal,
): Promise<string> {
  const { stdin, stdout, uninterrupted = false } = streams;
  const settings = QUIET.flatMap((setting) => ['-c', setting]);
  const child = spawn('git', [...settings, ...args], {
    cwd: folder,
    env: { ...keptOf(env), ...FIXED, ...streams.more },
    stdio: [
      typeof stdin === 'number' ? stdin : 'pipe',
      stdout === 'text' ? 'pipe' : (stdout ?? 'ignore'),
      'pipe',
    ],
    ...(uninterrupted ? { detached: true } : { timeout: streamsMs, ...(signal && { signal }) }),
  });
  const answered: Buffer[] = [];
  child.stdout?.on('data', (bytes: Buffer) => answered.push(bytes));
  let said = '';
  child.stderr!.setEncoding('utf8').on('data', (words: string) => {
    said = (said + words).slice(-saidCharactersMax);
    streams.onSaid?.(words);
  });
  if (typeof stdin === 'string') {
    child.stdin!.on('error', () => {}); // It ended before it read all; its end says why.
    child.stdin!.end(stdin);
  }
  const [exitCode] = (await once(child, 'close').catch((thrown: unknown) => {
    throw signal?.aborted === true ? signal.reason : thrown;
  })) as [number | null];
  const text = Buffer.concat(answered).toString('utf8');
  if (exitCode !== 0) throw new GitFailed(exitCode ?? -1, said, text);
  return text;
}

const keptOf = (env: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(
    [...KEPT, ...IDENTITY].flatMap((name) => {
      const value = env[name];
      return value === undefined ? [] : [[name, value]];
    }),
  );

/** For `gitWith`'s `more` where git may sign. */
export const signingEnv = (env: Record<string, string | undefined>): Record<string, string> =>
  Object.fromEntries(SIGNING.flatMap((name) => (env[name] === undefined ? [] : [[name, env[name]]])));

/** A folder of objects as git reads it back from a list of them, whatever is in its name. */
export const objectsPath = (path: string): string =>
  `"${path.replaceAll('\\', '\\\\').replaceAll('"', '\\"').replaceAll('\n', '\\n')}"`;

/** `SF_REPOSITORY` for a folder that is none. */
export function notThere(folder: string, said?: string): SuperfleetError {
  return new SuperfleetError('SF_REPOSITORY', `there is no git repository at ${folder}`, {
    expected: 'a git repository, or a folder inside one',
    got: said ?? 'no such folder',
    hint: '--repo PATH names one; --no-repo runs in an empty workspace',
  });
}
