import type { Entry } from '../../../ledger/lines/entry.ts';
import type { CommittedBatch, DurableLog } from '../../../ledger/log/durable-log.ts';
import type { Log } from '../../../ledger/log/log.ts';
import { Frontier, leafHash } from '../../../ledger/proofs/merkle.ts';
import { signedBy } from '../../../ledger/proofs/witness.ts';
import { initialState, replay, saveState } from '../../../ledger/state/state.ts';
import type { Leadership } from '../../../protocol/handover.ts';
import type { Assignment } from '../../../protocol/session.ts';
import { Violation } from '../violation.ts';
import type { SimDisk } from './disk.ts';
import type { Site } from './site.ts';
import type { SuccessionWorld } from './world.ts';

/** A founder hears its members for so long before it may go on without some of them. */
const HEAR_MS = 2_000;

interface Copy {
  frontier: Frontier;
  /** Root at each size where a batch ended. */
  roots: Map<number, string>;
  epoch: number;
}

/** Checks after every step what the promises say of logs, copies, founders and members, without asking those who decide. */
export class Watch {
  readonly #world: SuccessionWorld;
  readonly #copies = new Map<Site, Copy>();
  /** On what founders let something out of the process: epoch and size → root. */
  readonly #released = new Map<string, string>();
  /** Epoch → the largest of these sizes. */
  readonly #releasedTo = new Map<number, number>();
  /** What members and replicas were shown: epoch and size → root → who has it still. */
  readonly #seen = new Map<string, Map<string, Set<Site>>>();
  /** Two histories of one epoch may be signed: a copy of the founder ran, or one went on without members that saw more. */
  excused = false;
  /** Entries that were acknowledged may be gone: what held them could not be reached. */
  lossExcused = false;
  readonly counts = { batches: 0, acks: 0, takenBack: 0, handovers: 0, freezes: 0, restarts: 0 };

  constructor(world: SuccessionWorld) {
    this.#world = world;
  }

  /** Root that this site's log has at a size where a batch ended; null: none did. */
  rootAt(site: Site, size: number): string | null {
    return this.#copies.get(site)?.roots.get(size) ?? null;
  }

  /** A process has opened the log on its disk: what stands there is read once more, by other means. */
  opened(site: Site): void {
    const copy: Copy = { frontier: new Frontier(), roots: new Map(), epoch: 1 };
    this.#copies.set(site, copy);
    this.#read(site, copy, site.disk.bytes);
  }

  begun(site: Site, log: DurableLog): void {
    if (this.#copies.get(site)!.frontier.size !== log.size) this.opened(site);
  }

  /** A log or a copy says that this batch is durable. */
  batch(site: Site, batch: CommittedBatch): void {
    this.counts.batches += 1;
    const copy = this.#copies.get(site)!;
    if (copy.frontier.size !== batch.first)
      this.#fail(
        `${site.name} has a batch from ${batch.first} behind ${copy.frontier.size} entries (promise 4)`,
      );
    this.#read(site, copy, batch.bytes);
    const { size, root } = batch.checkpoint;
    if (copy.frontier.size !== size || copy.roots.get(size) !== root)
      this.#fail(`${site.name} took a batch whose entries do not give its root (promise 6)`);
    this.#synced(site, size, 'says that it is durable');
    const handsOver = batch.entries[0]?.type === 'epoch.handover';
    if (site.guard === null && !handsOver) this.#shownRoot(site, copy.epoch, size, root);
    if (site.guard !== null && site.leader === null) this.counts.takenBack += 1;
  }

  /** A source took this for what a follower holds. */
  acknowledged(source: Site, peer: string, size: number, root: string): void {
    this.counts.acks += 1;
    const own = this.#copies.get(source)?.roots.get(size);
    if (size > 0 && own !== undefined && own !== root)
      this.#fail(`${source.name} counts ${this.#world.nameOf(peer)}, which has another history (promise 6)`);
    const sites = this.#world.sites.filter((one) => one.peer === peer && one.isReplica);
    // It may have lost its disk since.
    const holds = sites.some(
      ({ disk, machine }) => !machine.alive || disk.syncedSize >= size || this.#world.rewound.has(peer),
    );
    if (size > 0 && !holds)
      this.#fail(`${this.#world.nameOf(peer)} acknowledged ${size} before its sync (promise 6)`);
  }

  /** Something leaves a founder's process that rests on this entry. */
  released(site: Site, after: number): void {
    const { log } = site.leader!;
    if (after >= log.size)
      this.#fail(`an effect of ${site.name} left before entry ${after} was durable (promise 1)`);
    this.#synced(site, log.size, 'lets out an effect');
    this.#released.set(`${log.epoch}/${log.size}`, log.checkpoint.root);
    this.#releasedTo.set(log.epoch, Math.max(log.size, this.#releasedTo.get(log.epoch) ?? 0));
    if (log.leadership.founder !== site.peer)
      this.#fail(`${site.name} goes on in epoch ${log.epoch}, which another leads (promise 8)`);
  }

  /** The guard let a founder go on: whatever a member saw that could be reached is in its log (promises 2 and 5). */
  goesOn(site: Site, log: Log): void {
    const { schedule } = this.#world;
    if (log.leadership.founder !== site.peer)
      this.#fail(`${site.name} goes on in epoch ${log.epoch}, which another leads (promise 8)`);
    const { roots } = this.#copies.get(site)!;
    const said = this.#releasedTo.get(log.epoch) ?? 0;
    if (said > 0 && roots.get(said) !== this.#released.get(`${log.epoch}/${said}`)) this.lossExcused = true;
    for (const other of this.#world.sites) {
      const text = other.member?.disk.checkpoint ?? null;
      if (other.peer === site.peer || text === null) continue;
      const seen = signedBy(log.leadership, text);
      // A later epoch's founder is another's to judge; one before it was closed as its handover says.
      if (seen === null || seen.epoch < log.epoch) continue;
      if (roots.get(seen.checkpoint.size) === seen.checkpoint.root) continue;
      const since = Math.max(site.guardSince, other.machine.disturbedAt, this.#world.disturbed(site, other));
      const well = other.machine.alive && !other.machine.frozen && this.#world.both(site, other);
      const known = other.leadership.founder === site.peer && other.folder.proof === null;
      const here = this.#world.sessionOf(other) === site;
      if (here || (well && known && since === site.guardSince && schedule.now - since < HEAR_MS))
        this.#fail(
          `${site.name} goes on with ${log.size} entries; ${other.name} saw ${seen.checkpoint.size} (promises 2, 5)`,
        );
      this.#world.trace(`${site.name} goes on without what ${other.name} saw`);
      this.excused = true;
      this.lossExcused = true;
    }
  }

  /** Somebody outside the founder's process has this root. */
  #shownRoot(site: Site, epoch: number, size: number, root: string): void {
    const key = `${epoch}/${size}`;
    const roots = this.#seen.get(key) ?? new Map<string, Set<Site>>();
    this.#seen.set(key, roots);
    roots.set(root, (roots.get(root) ?? new Set()).add(site));
    const others = [...roots].filter(([other, sites]) => other !== root && sites.size > 0);
    if (others.length > 0 && !this.excused)
      this.#fail(
        `two roots of size ${size} were let out in epoch ${epoch}, to ${site.name} and ${[...others[0]![1]].map(({ name }) => name)} (promise 5)`,
      );
  }

  /** Its disk is another one: what it saw is gone with the old. */
  forgot(site: Site): void {
    for (const roots of this.#seen.values()) for (const sites of roots.values()) sites.delete(site);
  }

  /** A machine was shown who leads the mesh, and believed it. */
  led(site: Site, before: Leadership, after: Leadership): void {
    this.counts.handovers += 1;
    if (after.epoch <= before.epoch)
      this.#fail(`${site.name} went from epoch ${before.epoch} to ${after.epoch} (promise 8)`);
    for (const [at, { line }] of before.handovers.entries()) {
      if (after.handovers[at]?.line !== line)
        this.#fail(`${site.name} believes two handovers to epoch ${at + 2} (promise 8)`);
    }
    for (const [at, { epoch }] of after.handovers.entries())
      if (epoch !== at + 2) this.#fail(`${site.name} believes handover ${at} to epoch ${epoch} (promise 8)`);
  }

  /** A member begins what a founder gave it. */
  started(site: Site, assignment: Assignment): void {
    if (assignment.epoch > site.leadership.epoch) return;
    const { founder, epoch } = site.leadership;
    const from = this.#world.sessionOf(site);
    if (from !== null && from.peer !== founder)
      this.#fail(`${site.name} works for ${from.name}, and knows of epoch ${epoch} (promise 8)`);
    if (site.folder.proof !== null)
      this.#fail(`${site.name} works for a founder that signed two histories (promise 7)`);
  }

  /** A member was shown a checkpoint while it held another. */
  shown(site: Site, held: string | null, text: string): void {
    const one = held === null ? null : signedBy(site.leadership, held);
    const other = signedBy(site.leadership, text);
    // What a founder says to its own member stays on one disk.
    if (other !== null && site.guard === null)
      this.#shownRoot(site, other.epoch, other.checkpoint.size, other.checkpoint.root);
    if (one === null || other === null || one.epoch !== other.epoch) return;
    if (one.checkpoint.size !== other.checkpoint.size || one.checkpoint.root === other.checkpoint.root)
      return;
    const { life } = site.machine;
    this.#world.schedule.after(0, () => {
      if (site.machine.life === life && site.folder.proof === null)
        this.#fail(`${site.name} saw two roots of size ${one.checkpoint.size} and goes on (promise 7)`);
    });
  }

  /** A replica has replayed what it holds. */
  replayed(site: Site): void {
    const { replica } = site;
    if (replica?.copy == null) return;
    this.counts.restarts += 1;
    const own = JSON.stringify(saveState(replica.state));
    const other = JSON.stringify(
      saveState(replay(entriesOf(site.disk).slice(0, replica.copy.size), initialState())),
    );
    if (own !== other) this.#fail(`${site.name} replayed another state than its copy gives (promise 9)`);
  }

  /** Lines of whole batches, checked as one would who knows only what is written of them. */
  #read(site: Site, copy: Copy, bytes: Buffer): void {
    for (const line of bytes.toString().split('\n')) {
      if (line.startsWith('{"checkpoint":')) {
        copy.roots.set(copy.frontier.size, copy.frontier.root().toString('hex'));
      } else if (line.endsWith('}')) {
        const { index, epoch, type } = JSON.parse(line) as Entry;
        if (index !== copy.frontier.size)
          this.#fail(`${site.name} has entry ${index} at ${copy.frontier.size} (promise 4)`);
        if (epoch !== copy.epoch + (type === 'epoch.handover' ? 1 : 0))
          this.#fail(`${site.name} has epoch ${epoch} after ${copy.epoch} (promise 8)`);
        copy.epoch = epoch;
        copy.frontier.append(leafHash(line));
      }
    }
  }

  /** Also where whoever called this keeps what is thrown for itself. */
  #fail(why: string): never {
    const violation = new Violation('replicas', why);
    this.#world.broke(violation);
    throw violation;
  }

  #synced(site: Site, size: number, what: string): void {
    if (site.disk.syncedSize < size)
      this.#fail(
        `${site.name} ${what}: ${size} entries, of which ${site.disk.syncedSize} are synced (promise 1)`,
      );
  }
}

export const entriesOf = (disk: SimDisk): Entry[] =>
  disk.bytes
    .toString()
    .split('\n')
    .filter((line) => line.startsWith('{"index"') && line.endsWith('}'))
    .map((line) => JSON.parse(line) as Entry);
