import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';

/**
 * Settings of an attempt's git directory. Everything that could start a program, read a file of the owner's or
 * reach out is off; the directory is throw-away, so nothing is synced or tidied either.
 */
const CONFIG = `[core]
	bare = false
	worktree = /workspace
	fileMode = true
	symlinks = true
	ignoreCase = false
	hooksPath = /dev/null
	attributesFile = /dev/null
	excludesFile = /dev/null
	fsmonitor = false
	untrackedCache = false
	autocrlf = false
	safecrlf = false
	quotePath = true
	protectHFS = true
	protectNTFS = true
	bigFileThreshold = 32m
	deltaBaseCacheLimit = 32m
	logAllRefUpdates = false
	commitGraph = false
	multiPackIndex = false
	fsync = none
[advice]
	addEmbeddedRepo = false
[gc]
	auto = 0
[index]
	threads = 1
[maintenance]
	auto = false
[pack]
	threads = 2
	windowMemory = 128m
[protocol]
	allow = never
[submodule]
	recurse = false
[transfer]
	fsckObjects = true
`;

/** Environment of every git process of ours: no configuration but the directory's own, no prompt, no replacement. */
export const GIT_ENV: Readonly<Record<string, string>> = {
  GIT_DIR: '/git',
  GIT_WORK_TREE: '/workspace',
  GIT_CONFIG_GLOBAL: '/dev/null',
  GIT_CONFIG_SYSTEM: '/dev/null',
  GIT_CONFIG_NOSYSTEM: '1',
  GIT_ATTR_NOSYSTEM: '1',
  GIT_TERMINAL_PROMPT: '0',
  GIT_NO_REPLACE_OBJECTS: '1',
  GIT_ALLOW_PROTOCOL: '',
  LC_ALL: 'C',
};

/** SHA-1 or SHA-256, told by the length of an object's name. */
export const objectFormatOf = (commit: string): 'sha1' | 'sha256' =>
  commit.length === 64 ? 'sha256' : 'sha1';

/**
 * Lays out a git directory by our own writes, which costs no process: on branch `mesh/<task>` at `base`, its objects
 * beside those of `/cache`.
 */
export async function layOutGitDirectory(folder: string, task: string, base: string): Promise<void> {
  await Promise.all([
    mkdir(join(folder, 'objects', 'info'), { recursive: true }),
    mkdir(join(folder, 'objects', 'pack'), { recursive: true }),
    mkdir(join(folder, 'refs', 'heads', 'mesh'), { recursive: true }),
  ]);
  const format =
    objectFormatOf(base) === 'sha256'
      ? '[core]\n\trepositoryformatversion = 1\n[extensions]\n\tobjectFormat = sha256\n'
      : '[core]\n\trepositoryformatversion = 0\n';
  await Promise.all([
    writeFile(join(folder, 'HEAD'), `ref: refs/heads/mesh/${task}\n`),
    writeFile(join(folder, 'config'), format + CONFIG),
    writeFile(join(folder, 'objects', 'info', 'alternates'), '/cache\n'),
    writeFile(join(folder, 'refs', 'heads', 'mesh', task), `${base}\n`),
  ]);
}
