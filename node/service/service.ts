import { lstatSync, mkdirSync, readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { dirname } from 'node:path';
import { SuperfleetError } from '../../protocol/errors.ts';
import { fileFailure, syncFolder, writeFileAtomic } from '../atomic-file.ts';
import type { Manager, ServiceState } from './manager.ts';
import { type Mark, readMarkLine, type ServiceSpec } from './types.ts';

/** What lies where a manager looks for the service. */
type Found = { kind: 'none' } | { kind: 'foreign' } | { kind: 'ours'; mark: Mark; text: string };

/** What `install` did: to the file, and to the process. */
export interface Installed {
  file: 'made' | 'replaced' | 'unchanged';
  /** `kept`: the service ran already, and what it runs is unchanged. */
  process: 'started' | 'restarted' | 'kept';
}

export interface ServiceStatus extends ServiceState {
  installed: boolean;
  /** Data folder of the service that is installed; null: none, or it is not ours. */
  dir: string | null;
}

/** Throws `SF_SERVICE` (exit 6) where there is no manager to be asked. */
export function requireManager(manager: Manager): void {
  if (manager.absent === null) return;
  throw new SuperfleetError('SF_SERVICE', `no service can be kept here: ${manager.absent}`, {
    expected: 'systemd as init, or launchd',
    got: manager.absent,
    hint: 'have whatever starts programs here run "start" with --dir at boot; --print shows the unit with the whole command line',
  });
}

/** Throws where what is installed is not this service's: `SF_EXISTS`. */
export function requireRoom(manager: Manager, { bin, dir }: Mark): void {
  const found = look(manager.path);
  if (found.kind === 'none') return;
  if (found.kind === 'foreign') {
    throw new SuperfleetError('SF_EXISTS', `${manager.path} was not written by ${bin}, and is left alone`, {
      expected: 'no such file, or one with our marker line',
      got: 'a file of somebody else',
      hint: 'move it away, or start the node by that unit of yours',
    });
  }
  if (found.mark.dir === dir && found.mark.bin === bin) return;
  throw new SuperfleetError('SF_EXISTS', `the service ${manager.unit} is that of another data folder`, {
    expected: dir,
    got: found.mark.dir,
    hint: `${found.mark.bin} service uninstall --dir ${JSON.stringify(found.mark.dir)} first: one data folder each has a service`,
  });
}

/**
 * Writes the file, has the manager read it, and starts the service, also at every boot. Done again it changes nothing; a
 * file of ours that differs is replaced. What the manager refuses is put back as it was. `takeOver` ends a process that
 * was started by hand with this data folder, once the manager has agreed to keep the service.
 */
export async function install(
  manager: Manager,
  spec: ServiceSpec,
  byHand: boolean,
  takeOver: () => Promise<void>,
): Promise<Installed> {
  requireManager(manager);
  requireRoom(manager, spec);
  const text = manager.text(spec);
  const found = look(manager.path);
  const before = found.kind === 'ours' ? found.text : null;
  const { enabled, active } = manager.state();
  const file = before === null ? 'made' : before === text ? 'unchanged' : 'replaced';
  if (file === 'unchanged' && enabled && active) return { file, process: 'kept' };
  try {
    if (file !== 'unchanged') {
      await write(manager.path, text);
      manager.reload();
    }
    if (active || byHand) manager.enable();
    else manager.enableAndStart();
  } catch (error) {
    if (file !== 'unchanged') await putBack(manager, before);
    throw error;
  }
  if (byHand) await takeOver();
  if (active && file === 'replaced') manager.restart();
  else if (byHand) manager.start();
  return { file, process: active ? (file === 'replaced' ? 'restarted' : 'kept') : 'started' };
}

/** Stops it and removes its file; false: it was not installed. */
export async function uninstall(manager: Manager, mark: Mark): Promise<boolean> {
  requireManager(manager);
  requireRoom(manager, mark);
  if (look(manager.path).kind === 'none') return false;
  manager.disableAndStop();
  await remove(manager.path);
  manager.reload();
  return true;
}

export function status(manager: Manager): ServiceStatus {
  const found = look(manager.path);
  const none = { enabled: false, active: false, failed: false, pid: null };
  return {
    installed: found.kind === 'ours',
    dir: found.kind === 'ours' ? found.mark.dir : null,
    ...(manager.absent === null && found.kind === 'ours' ? manager.state() : none),
  };
}

function look(path: string): Found {
  const entry = lstatSync(path, { throwIfNoEntry: false });
  if (entry === undefined) return { kind: 'none' };
  // A link is how systemd masks a unit, and how people lend theirs.
  if (!entry.isFile()) return { kind: 'foreign' };
  const text = readFileSync(path, 'utf8');
  const mark = readMarkLine(text);
  return mark === null ? { kind: 'foreign' } : { kind: 'ours', mark, text };
}

async function write(path: string, text: string): Promise<void> {
  try {
    mkdirSync(dirname(path), { recursive: true, mode: 0o755 });
  } catch (error) {
    throw fileFailure(error, dirname(path));
  }
  // The manager may read it as somebody else.
  await writeFileAtomic(path, text, { mode: 0o644 });
}

async function remove(path: string): Promise<void> {
  try {
    await rm(path, { force: true });
    await syncFolder(dirname(path));
  } catch (error) {
    throw fileFailure(error, path);
  }
}

/** As it was before; the error that is told is the one that led here. */
async function putBack(manager: Manager, before: string | null): Promise<void> {
  try {
    if (before !== null) {
      await write(manager.path, before);
    } else {
      try {
        manager.disableAndStop();
      } catch {
        // It may never have been enabled.
      }
      await remove(manager.path);
    }
    manager.reload();
  } catch {
    // The manager is out of order, and its words are in that error.
  }
}
