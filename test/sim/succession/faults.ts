import { CRASH_KINDS, type CrashKind } from '../../../ledger/storage/storage-memory.ts';
import type { FaultKind } from './scenario.ts';
import { type Site, TWO_HISTORIES } from './site.ts';
import type { SuccessionWorld } from './world.ts';

const TWO_HOURS = 2 * 3_600_000;

/** Does one fault to the world; what can heal heals by itself, at the latest when the faults end. */
export function inflict(world: SuccessionWorld, kind: FaultKind): void {
  const { random, schedule } = world;
  const site = random.pick(world.sites);
  const founder = world.sites.find(({ guard }) => guard !== null) ?? null;
  world.trace(`fault: ${kind}`);
  const later = (low: number, high: number, heal: () => void): void =>
    schedule.after(random.between(low, random.chance(0.7) ? high / 8 : high), heal);
  const power = (): CrashKind => random.pick(CRASH_KINDS);
  switch (kind) {
    case 'founderCrash':
      if (founder === null) return;
      founder.crash(power());
      later(100, 30_000, () => founder.boot());
      return;
    case 'founderLosesTail':
    case 'founderRestored':
      if (founder?.leader == null) return;
      founder.crash('lost');
      founder.disk.rewind(
        kind === 'founderRestored' ? random.int(3, 40) : random.int(1, 4),
        world.sites.length + 1,
      );
      world.rewound.add(founder.peer);
      if (kind === 'founderRestored') founder.folder.place += "'";
      later(100, 30_000, () => founder.boot());
      return;
    case 'founderCopied':
      if (founder?.leader == null || world.sites.some(({ member }) => member === null)) return;
      world.copyBeside(founder);
      return;
    case 'founderLost':
    case 'promotedTwice':
      if (founder?.leader == null || !keptElsewhere(world, founder)) return;
      lose(world, founder, kind === 'promotedTwice' ? 2 : 1);
      return;
    case 'handover':
      void handOver(world, random.int(0, 8));
      return;
    case 'memberCrash':
      if (!site.machine.alive || site.guard !== null) return;
      site.crash(power());
      later(100, 30_000, () => site.boot());
      return;
    case 'replicaWiped':
      if (!site.machine.alive || site.replica === null || !keptElsewhere(world, site)) return;
      site.crash('lost');
      site.disk.put(Buffer.alloc(0));
      world.watch.forgot(site);
      world.rewound.add(site.peer);
      later(100, 10_000, () => site.boot());
      return;
    case 'partition':
    case 'oneWay': {
      const other = random.pick(world.sites);
      if (other === site) return;
      world.setDown(site, other, true);
      if (kind === 'partition') world.setDown(other, site, true);
      later(500, 40_000, () => {
        world.setDown(site, other, false);
        world.setDown(other, site, false);
      });
      return;
    }
    case 'slowDisk':
      site.disk.syncMs = random.between(50, 2_000);
      later(1_000, 20_000, () => {
        site.disk.syncMs = 2;
      });
      return;
    case 'wallJump':
      site.machine.jumpWall(random.pick([-TWO_HOURS, TWO_HOURS, random.between(-TWO_HOURS, TWO_HOURS)]));
      return;
    case 'liar': {
      const able = (one: Site): boolean => one.guard === null && one.isReplica;
      const liar = able(site) ? site : world.sites.find(able);
      if (liar === undefined) return;
      liar.lie = (bytes) => lied(world, bytes);
      // The others have nobody else to follow meanwhile.
      for (const other of world.sites)
        if (founder !== null && other !== liar && other !== founder) world.setDown(other, founder, true);
      schedule.after(random.between(10_000, 30_000), () => {
        liar.lie = null;
        for (const other of world.sites) if (founder !== null) world.setDown(other, founder, false);
      });
      return;
    }
    case 'slowSource':
      site.slowMs = random.between(100, 5_000);
      later(2_000, 30_000, () => {
        site.slowMs = 0;
      });
      return;
    case 'loss':
      world.loss = random.between(0.01, 0.2);
      later(2_000, 30_000, () => {
        world.loss = 0;
      });
      return;
    default:
      kind satisfies never;
  }
}

/** With no replica, losing the founder's disk loses the fleet: that is said, and not simulated. */
const keptElsewhere = (world: SuccessionWorld, site: Site): boolean =>
  world.sites.some((one) => one !== site && one.member !== null && one.disk.syncedSize > world.sites.length);

/** The founder's machine is gone for good; an operator promotes the replica that holds most, or two of them by mistake. */
function lose(world: SuccessionWorld, founder: Site, times: number): void {
  founder.crash('lost');
  founder.disk.put(Buffer.alloc(0));
  world.watch.forgot(founder);
  founder.folder.kind = 'node';
  founder.folder.logKey = null;
  world.rewound.add(founder.peer);
  world.watch.lossExcused = true;
  world.schedule.after(world.random.between(1_000, 10_000), () => {
    promoteBest(world, times);
    world.schedule.after(world.random.between(500, 20_000), () => founder.boot());
  });
}

/** The most advanced replicas that an operator finds are promoted by the recovery key; false: there is none. */
export function promoteBest(world: SuccessionWorld, times = 1): boolean {
  const ready = world.sites.filter(({ machine, replica, member }) => {
    return (
      member !== null &&
      machine.alive &&
      !machine.frozen &&
      replica?.copy != null &&
      replica.copy.failure === null
    );
  });
  const rank = ({ replica }: Site): number => replica!.copy!.epoch * 1e6 + replica!.copy!.size;
  const best = ready.sort((a, b) => rank(b) - rank(a)).slice(0, times);
  for (const site of best) {
    const epoch = site.replica!.copy!.epoch + 1;
    opens(world, epoch);
    site.promote().catch(() => {});
  }
  if (best.length > 0) world.watch.lossExcused = true;
  return best.length > 0;
}

/** Where no replica can be promoted: a founder that is frozen is told to go on without what it contradicts. */
export function acceptLoss(world: SuccessionWorld): void {
  const frozen = world.sites
    .filter(
      ({ member, halted, folder }) => member !== null && halted === TWO_HISTORIES && folder.kind === 'hub',
    )
    .sort((a, b) => b.disk.syncedSize - a.disk.syncedSize)[0];
  if (frozen === undefined) return;
  opens(world, frozen.leadership.epoch + 1);
  world.watch.lossExcused = true;
  frozen.acceptLoss().catch((error: unknown) => world.broke(error));
}

/** An epoch is opened; twice is the one thing that no machine can mend. */
function opens(world: SuccessionWorld, epoch: number): void {
  if (world.opened.has(epoch)) {
    world.parted = true;
    world.watch.excused = true;
  }
  world.opened.add(epoch);
}

/** As `mesh-hub handover` does it; the process dies at the step of this number, if there is one. */
async function handOver(world: SuccessionWorld, dies: number): Promise<void> {
  const site = world.sites.find(({ leader }) => leader?.core != null);
  const targets = world.sites.filter(
    (one) => one !== site && one.replica?.copy != null && one.member !== null,
  );
  if (site === undefined || targets.length === 0) return;
  const { machine } = site;
  const leader = site.leader!;
  const { log } = leader;
  const source = site.source;
  const target = world.random.pick(targets);
  const to = { founder: target.peer, logKey: target.folder.nextKey.publicKey };
  if (source === null || target.peer === site.peer) return;
  const wait = (ms: number): Promise<void> => new Promise((resolve) => machine.after(ms, resolve));
  const die = (): void => {
    world.trace(`${site.name} dies at step ${dies}`);
    site.crash(world.random.pick(CRASH_KINDS));
    world.schedule.after(world.random.between(100, 20_000), () => site.boot());
  };
  const held = (): boolean =>
    log.next === log.size &&
    (source.acknowledged(target.peer) === log.size ||
      source.followers.some(({ peer, size }) => peer === target.peer && size === log.size));
  const untilHeld = async (ms: number): Promise<boolean> => {
    for (const deadline = machine.mono + ms; !held(); await wait(10))
      if (machine.mono > deadline) return false;
    return true;
  };
  world.trace(`${site.name} hands over to ${target.name}`);
  if (dies === 0) return die();
  leader.hold();
  if (dies === 1) return die();
  if (!(await untilHeld(5_000))) return leader.release();
  if (site.leader !== leader) return;
  if (dies === 2) return die();
  if (dies === 3) world.schedule.after(world.random.between(0, 3), die);
  opens(world, log.epoch + 1);
  await log.handOver(to, machine.clock().time).catch(() => {});
  if (log.failure !== null || site.leader !== leader) return;
  leader.stop();
  if (dies === 4) return die();
  await untilHeld(3_000);
  if (dies === 5) return die();
  site.takeHandovers(log.leadership.handovers.map(({ line }) => line));
  await wait(50);
  site.stepDown();
}

/** A source that lies, stammers, or falls silent. */
function lied(world: SuccessionWorld, bytes: Uint8Array): Uint8Array[] {
  const { random } = world;
  const text = Buffer.from(bytes);
  const checkpoint = text.lastIndexOf('{"checkpoint":');
  if (!random.chance(checkpoint === -1 ? 0.02 : 0.7)) return [bytes];
  switch (checkpoint === -1 ? random.int(0, 1) : random.int(0, 5)) {
    case 0:
      return [bytes, bytes];
    case 1:
      return [];
    case 2:
    case 3: {
      // Another entry under the true checkpoint: only the root tells.
      const at = text.indexOf('"time":');
      if (at === -1) return [bytes];
      const digit = text.indexOf(',', at) - 1;
      text[digit] = text[digit] === 0x39 ? 0x38 : text[digit]! + 1;
      return [text];
    }
    default: {
      // The true entries under a signature of nobody.
      const last = text.lastIndexOf('\\n"}') - 10;
      text[last] = text[last] === 0x41 ? 0x42 : 0x41;
      return [text];
    }
  }
}

/** Everything is well again, for good: copies are gone, and who was down starts. */
export function heal(world: SuccessionWorld): void {
  world.faulty = false;
  world.loss = 0;
  for (const one of world.sites) {
    one.lie = null;
    one.slowMs = 0;
    one.disk.syncMs = 2;
    for (const other of world.sites) world.setDown(one, other, false);
    if (one.member === null) {
      one.gone = true;
      if (one.machine.alive) one.crash('lost');
    } else one.boot();
  }
}
