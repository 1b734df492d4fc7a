import { execFileSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { createWriteStream, mkdirSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { pipeline } from 'node:stream/promises';
import type { Client } from '../../../node/api/client.ts';
import type { Given } from '../../../node/submit/quarantine.ts';
import { openRepository, type Repository } from '../../../node/submit/repository.ts';
import { bundleBytes, makeBundle } from '../../../node/submit/send.ts';
import { makeSnapshot } from '../../../node/submit/snapshot.ts';
import { gitEnv } from '../../hub/api/hub.ts';

/** A folder of real repositories, gone when disposed of. */
export class Sandbox {
  readonly path = mkdtempSync(join(tmpdir(), 'sf-submit-'));
  readonly env = gitEnv;

  [Symbol.dispose](): void {
    rmSync(this.path, { recursive: true, force: true });
  }

  git(folder: string, ...args: string[]): string {
    return execFileSync('git', ['-c', 'init.defaultBranch=main', ...args], {
      cwd: join(this.path, folder),
      env: this.env,
      encoding: 'utf8',
      stdio: ['ignore', 'pipe', 'pipe'],
    }).trim();
  }

  write(folder: string, path: string, text: string): void {
    const at = join(this.path, folder, path);
    mkdirSync(dirname(at), { recursive: true });
    writeFileSync(at, text);
  }

  read(folder: string, path: string): string {
    return readFileSync(join(this.path, folder, path), 'utf8');
  }

  /** Writes, commits all, answers the commit. */
  commit(folder: string, files: Record<string, string>, message = 'change'): string {
    for (const [path, text] of Object.entries(files)) this.write(folder, path, text);
    this.git(folder, 'add', '-A');
    this.git(folder, 'commit', '-qm', message, '--allow-empty');
    return this.git(folder, 'rev-parse', 'HEAD');
  }

  /** A repository with one commit. */
  repository(
    folder: string,
    files: Record<string, string> = { 'a.txt': 'one\n' },
    ...init: string[]
  ): string {
    mkdirSync(join(this.path, folder), { recursive: true });
    this.git(folder, 'init', '-q', ...init);
    return this.commit(folder, files, 'base');
  }

  open(folder: string): Promise<Repository> {
    return openRepository(null, { cwd: join(this.path, folder), env: this.env });
  }

  /** What a member would give: a commit on `base` in a clone, as a thin bundle of one ref. */
  result(folder: string, base: string, files: Record<string, string>, task = 'abcdefghijkl'): Made {
    const clone = `${folder}.member`;
    this.git('.', 'clone', '-q', folder, clone);
    this.git(clone, 'checkout', '-q', '-b', `mesh/${task}`, base);
    const commit = this.commit(clone, files, 'work');
    const path = join(this.path, `${clone}.bundle`);
    this.git(clone, 'bundle', 'create', '-q', path, `refs/heads/mesh/${task}`, `^${base}`);
    return { ...givenOf(task, base, commit, path), path };
  }
}

export interface Made extends Given {
  path: string;
  /** The snapshot's bundle, where the base is one. */
  basePath?: string;
}

/** What a member would give for a task that was sent from `folder` as it lies there (or, from a shallow clone, at HEAD). */
export async function resultOnSnapshot(
  box: Sandbox,
  folder: string,
  files: Record<string, string>,
  dirty = true,
  task = 'abcdefghijkl',
): Promise<Made & { basePath: string }> {
  const repository = await box.open(folder);
  using snapshot = await makeSnapshot(repository, 'HEAD', dirty, box.env);
  if (snapshot === null) throw new Error('nothing to make a snapshot of');
  const rests = snapshot.of !== null && !repository.shallow ? [snapshot.of] : [];
  const at = mkdtempSync(join(box.path, 'bundle-'));
  const bundle = await makeBundle(snapshot.repository, snapshot.commit, rests, at, box.env);
  const basePath = join(at, 'base.bundle');
  await pipeline(bundleBytes(bundle), createWriteStream(basePath));
  const member = `${folder}.member`;
  rmSync(join(box.path, member), { recursive: true, force: true });
  if (rests.length > 0) box.git('.', 'clone', '-q', folder, member);
  else box.git('.', 'init', '-q', member);
  box.git(member, 'fetch', '-q', basePath, 'refs/heads/base:refs/heads/base');
  box.git(member, 'checkout', '-q', '-b', `mesh/${task}`, 'base');
  const commit = box.commit(member, files, 'work');
  const path = join(at, 'result.bundle');
  box.git(member, 'bundle', 'create', '-q', path, `refs/heads/mesh/${task}`, '^base');
  const source = { blob: givenOf('', null, '', basePath).bundle.blob, name: repository.name };
  return { ...givenOf(task, snapshot.commit, commit, path), source, path, basePath };
}

export function givenOf(task: string, base: string | null, commit: string, path: string): Given {
  const bytes = readFileSync(path);
  const sha256 = createHash('sha256').update(bytes).digest('hex');
  return { task, base, commit, bundle: { blob: sha256, bytes: bytes.length, sha256 } };
}

/** A client that hands out these files as blobs by their digest. */
export function clientOf(...files: string[]): Client {
  const blobs = new Map(files.map((path) => [givenOf('', null, '', path).bundle.blob, readFileSync(path)]));
  return {
    bytes: async function* (path: string) {
      yield blobs.get(path.split('/').at(-1) ?? '') as Uint8Array;
    },
  } as unknown as Client;
}
