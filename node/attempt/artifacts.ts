import type { FileHandle } from 'node:fs/promises';
import { artifactBytesMax, artifactsMax, artifactsTotalBytesMax } from '../../protocol/limits.ts';
import type { Artifact } from '../../protocol/task.ts';
import { printable } from '../git/fault.ts';
import type { AttemptBlobs } from './context.ts';
import { type Glob, glob } from './glob.ts';
import { InsideFolder } from './open-inside.ts';
import { SecretSearch } from './secrets.ts';

/** Names looked at while globs are matched, and folders deep. */
const entriesMax = 200_000;
const depthMax = 64;
const pathLengthMax = 512;
const readBytes = 256 * 1024;

/** The task left something that cannot be returned; the message says what. */
export class ArtifactFault extends Error {}

export interface CollectedArtifacts {
  artifacts: Artifact[];
  /** Lines for the log: patterns that matched nothing, names left out. */
  notes: string[];
}

/**
 * Streams the files that the globs name into the store. Only regular files, by a walk that follows no link; counted
 * and bounded. A path named outright that is something else is an `ArtifactFault`, as is a secret's value in a file
 * or its name; what a wildcard meets is left out with a note. On a throw nothing stays in the store.
 */
export async function collectArtifacts(
  workspace: string,
  patterns: readonly string[],
  secrets: Readonly<Record<string, string>>,
  blobs: AttemptBlobs,
  signal: AbortSignal,
): Promise<CollectedArtifacts> {
  const walk = new Walk(patterns.map(glob), secrets, blobs, signal);
  if (patterns.length === 0) return walk.collected;
  const root = await InsideFolder.root(workspace);
  try {
    await walk.into(root, '', 0);
    walk.noteUnmatched();
    return walk.collected;
  } catch (error) {
    for (const { blob } of walk.collected.artifacts) blobs.release(blob);
    throw error;
  } finally {
    await root.close();
  }
}

class Walk {
  readonly collected: CollectedArtifacts = { artifacts: [], notes: [] };
  readonly #globs: readonly Glob[];
  readonly #secrets: Readonly<Record<string, string>>;
  readonly #blobs: AttemptBlobs;
  readonly #signal: AbortSignal;
  readonly #matched = new Set<Glob>();
  #entries = 0;
  #bytes = 0;

  constructor(
    globs: readonly Glob[],
    secrets: Readonly<Record<string, string>>,
    blobs: AttemptBlobs,
    signal: AbortSignal,
  ) {
    this.#globs = globs;
    this.#secrets = secrets;
    this.#blobs = blobs;
    this.#signal = signal;
  }

  async into(folder: InsideFolder, prefix: string, depth: number): Promise<void> {
    const found: { name: Buffer; kind: 'file' | 'folder' | 'other' }[] = [];
    for await (const entry of folder.entries()) {
      this.#entries += 1;
      if (this.#entries > entriesMax) {
        throw new ArtifactFault(
          `more than ${entriesMax} names to look through for artifacts; name them narrower`,
        );
      }
      found.push(entry);
    }
    // In one order everywhere, whatever the file system's.
    found.sort((a, b) => Buffer.compare(a.name, b.name));
    for (const { name, kind } of found) {
      this.#signal.throwIfAborted();
      const text = name.toString('utf8');
      const path = prefix + text;
      if (path === '.git') continue;
      const matching = this.#globs.filter((one) => one.matches(path));
      for (const one of matching) this.#matched.add(one);
      if (matching.length > 0) await this.#take(folder, name, path, kind, matching);
      if (kind !== 'folder' || !this.#globs.some((one) => one.mayMatchUnder(path))) continue;
      if (depth === depthMax) {
        this.collected.notes.push(
          `artifacts are not looked for below ${path}: more than ${depthMax} folders deep`,
        );
        continue;
      }
      const inner = await folder.folder(name);
      if (inner === null) continue;
      try {
        await this.into(inner, `${path}/`, depth + 1);
      } finally {
        await inner.close();
      }
    }
  }

  noteUnmatched(): void {
    for (const one of this.#globs) {
      if (!this.#matched.has(one)) this.collected.notes.push(`no file matches the artifact ${one.pattern}`);
    }
  }

  async #take(
    folder: InsideFolder,
    name: Buffer,
    path: string,
    kind: 'file' | 'folder' | 'other',
    matching: readonly Glob[],
  ): Promise<void> {
    const outright = matching.find((one) => one.literal);
    const leaveOut = (why: string): void => {
      const words = `the artifact ${printable(path)} ${why}`;
      if (outright !== undefined) throw new ArtifactFault(words);
      this.collected.notes.push(`${words}; it is left out`);
    };
    if (kind === 'folder' && outright === undefined) return;
    // A name that is no text, or that a terminal would obey, cannot be placed at the other end under its own name.
    if (!Buffer.from(path).subarray(-name.length).equals(name) || /[\p{Cc}]/u.test(path)) {
      return leaveOut('has a name that is no plain text');
    }
    if (path.length > pathLengthMax) return leaveOut(`has a path longer than ${pathLengthMax} characters`);
    const file = await folder.file(name);
    if (file === null) return leaveOut('is not a regular file (or may not be read)');
    try {
      const { size } = await file.stat();
      if (size > artifactBytesMax) return leaveOut(`has ${size} bytes, more than ${artifactBytesMax}`);
      this.#bytes += size;
      if (this.#bytes > artifactsTotalBytesMax) {
        throw new ArtifactFault(`the artifacts have more than ${artifactsTotalBytesMax} bytes together`);
      }
      if (this.collected.artifacts.length === artifactsMax) {
        throw new ArtifactFault(`more than ${artifactsMax} files match the artifacts; name them narrower`);
      }
      await this.#store(file, path);
    } finally {
      await file.close();
    }
  }

  async #store(file: FileHandle, path: string): Promise<void> {
    await this.#refuseSecrets(file, path);
    const stored = await this.#blobs.put(this.#bytesOf(file));
    this.collected.artifacts.push({ path, ...stored });
  }

  /** Before a byte of it is stored: a store may be shared, and what is in it can then not be taken back. */
  async #refuseSecrets(file: FileHandle, path: string): Promise<void> {
    const search = new SecretSearch(this.#secrets);
    if (!search.needed) return;
    search.push(Buffer.from(`${path}\0`));
    for await (const chunk of this.#bytesOf(file)) search.push(chunk);
    if (search.found === null) return;
    throw new ArtifactFault(
      `the artifact ${printable(path)} holds the value of the secret ${search.found}, so nothing is returned`,
    );
  }

  async *#bytesOf(file: FileHandle): AsyncGenerator<Uint8Array> {
    let at = 0;
    while (at <= artifactBytesMax) {
      this.#signal.throwIfAborted();
      const { bytesRead, buffer } = await file.read(Buffer.alloc(readBytes), 0, readBytes, at);
      if (bytesRead === 0) return;
      at += bytesRead;
      yield buffer.subarray(0, bytesRead);
    }
  }
}
