import { execFile } from 'node:child_process';
import { mkdir, open, readdir, readFile, rename, stat } from 'node:fs/promises';
import { join } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { type AttemptResult, attemptResult, type Lease, leaseKey } from '../../protocol/session.ts';
import { syncFolder } from '../atomic-file.ts';
import { removeTree } from '../git/remove-tree.ts';
import { findProgram } from '../sandbox/host.ts';

const RESULT = 'result.json';
const WORK = 'work';
const KEY = /^[a-z2-7]{12}\.\d{1,16}\.\d{1,16}$/;

/**
 * `attempts/<task>.<attempt>.<epoch>/`: `work/` while it runs, `result.json` once it has ended. A result is there
 * whole and synced or not at all; a folder without one is a left-over of a crash.
 */
export class AttemptFolders {
  readonly #root: string;

  private constructor(root: string) {
    this.#root = root;
  }

  /** Opens the folder; removes what attempts without a result left, and the work of those with one. */
  static async open(root: string): Promise<AttemptFolders> {
    await mkdir(root, { recursive: true, mode: 0o700 });
    await spreadOut(root);
    const folders = new AttemptFolders(root);
    for (const name of await readdir(root)) {
      const path = join(root, name);
      const ended = KEY.test(name) && (await exists(join(path, RESULT)));
      await removeTree(ended ? join(path, WORK) : path);
    }
    return folders;
  }

  /** A fresh work folder for an attempt, private to this user. */
  async begin(lease: Lease): Promise<string> {
    const work = join(this.#of(lease), WORK);
    await removeTree(this.#of(lease));
    await mkdir(work, { recursive: true, mode: 0o700 });
    return work;
  }

  /** Writes the result whole and synced: when this resolves it survives a power cut. */
  async save(result: AttemptResult): Promise<void> {
    const folder = this.#of(result);
    await mkdir(folder, { recursive: true, mode: 0o700 });
    const temporary = join(folder, `${RESULT}.new`);
    const file = await open(temporary, 'w', 0o600);
    try {
      await file.writeFile(JSON.stringify(result));
      await file.datasync();
    } finally {
      await file.close();
    }
    await rename(temporary, join(folder, RESULT));
    await syncFolder(folder);
    await syncFolder(this.#root);
  }

  /** Results kept here, oldest first. `SF_FOLDER` names one that is not of the form written. */
  async results(): Promise<AttemptResult[]> {
    const found: { result: AttemptResult; time: number }[] = [];
    for (const name of await readdir(this.#root)) {
      const path = join(this.#root, name, RESULT);
      if (!KEY.test(name) || !(await exists(path))) continue;
      const { mtimeMs: time } = await stat(path);
      const parsed = attemptResult.safeParse(parsedJson(await readFile(path, 'utf8')));
      if (!parsed.success || leaseKey(parsed.data) !== name) {
        throw new SuperfleetError('SF_FOLDER', `a kept result is damaged: ${path}`, {
          expected: 'a result as this program writes it',
          hint: 'move the folder away; the founder then has the task done again',
        });
      }
      found.push({ result: parsed.data, time });
    }
    return found.sort((a, b) => a.time - b.time).map(({ result }) => result);
  }

  async result(lease: Lease): Promise<AttemptResult | null> {
    const path = join(this.#of(lease), RESULT);
    if (!(await exists(path))) return null;
    const parsed = attemptResult.safeParse(parsedJson(await readFile(path, 'utf8')));
    return parsed.success ? parsed.data : null;
  }

  /** The work of an attempt, gone; its result stays. */
  async removeWork(lease: Lease): Promise<void> {
    await removeTree(join(this.#of(lease), WORK));
  }

  /** Everything of an attempt, gone. */
  async remove(lease: Lease): Promise<void> {
    await removeTree(this.#of(lease));
  }

  #of(lease: Lease): string {
    const key = leaseKey(lease);
    if (!KEY.test(key)) throw new SuperfleetError('SF_USAGE', `not a lease: ${JSON.stringify(key)}`);
    return join(this.#root, key);
  }
}

/**
 * On ext4 folders made here are laid apart from each other. It gives no inode out again for minutes after a file was
 * deleted and looks at each of them for every new one, so a check-out beside many that were just deleted took 20 times as
 * long. Other file systems have no such mark, and need none.
 */
async function spreadOut(folder: string): Promise<void> {
  const chattr = findProgram('chattr');
  if (chattr === null) return;
  await new Promise<void>((resolve) => {
    execFile(chattr, ['+T', folder], { env: {}, timeout: 5_000 }, () => resolve());
  });
}

function parsedJson(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

async function exists(path: string): Promise<boolean> {
  return (await stat(path).catch(() => null)) !== null;
}
