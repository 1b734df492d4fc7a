import type { MemberMessage } from '../../protocol/session.ts';
import { peerOf } from '../hub/core/fleet.ts';
import type { MemberHost } from './member-host.ts';
import type { Direction } from './network.ts';
import type { FaultKind } from './scenario.ts';
import { Violation } from './violation.ts';
import { checkPaused, checkStopped } from './watch.ts';
import type { World } from './world.ts';

/** Does one fault to the world; it heals by itself, at the latest when the faults end. */
export function inflict(world: World, kind: FaultKind): void {
  const { random, schedule, founder } = world;
  const remote = [...world.members.values()].filter((member) => !member.inProcess && member.machine.alive);
  const member = remote.length === 0 ? null : random.pick(remote);
  const name = member === null ? 'nobody' : world.nameOf(member.peer);
  world.trace(`fault: ${kind} (${name})`);
  const later = (low: number, high: number, heal: () => void): void =>
    schedule.after(random.between(low, random.chance(0.7) ? high / 8 : high), heal);
  switch (kind) {
    case 'founderCrash':
      if (!founder.machine.alive) return;
      world.crashFounder();
      later(100, 40_000, () => world.bootFounder());
      return;
    case 'founderFreeze':
      freezeFounder(world, true);
      later(300, 40_000, () => freezeFounder(world, false));
      return;
    case 'slowDisk':
      founder.syncMs = random.between(50, 3_000);
      later(500, 20_000, () => founder.mendDisk());
      return;
    case 'founderDiskFull':
      founder.diskIsFull = true;
      later(500, 20_000, () => founder.mendDisk());
      return;
    case 'founderDiskFails':
      // A write that failed is never taken for one that was done: the process ends there.
      if (!founder.machine.alive || founder.machine.frozen) return;
      world.crashFounder();
      later(100, 40_000, () => world.bootFounder());
      return;
    case 'wallJump':
      founder.machine.jumpWall();
      member?.machine.jumpWall();
      return;
    case 'join': {
      const plan = world.scenario.members.find((one) => one.later);
      if (plan !== undefined) world.join(plan);
      return;
    }
    case 'meshPause':
      pauseMesh(world, random.between(1_500, 15_000));
      return;
    case 'stopTask':
    case 'rerun': {
      const tasks = [...world.acknowledged];
      if (tasks.length === 0) return;
      const task = random.pick(tasks);
      if (kind === 'stopTask')
        world.ask({ op: 'task.stop', task }, (_result, error) => {
          if (error === null) checkStopped(world, task);
        });
      else world.ask({ op: 'task.rerun', task }, (result) => acknowledge(world, result));
      return;
    }
    default:
      if (member !== null) inflictOn(world, kind, member, later);
  }
}

function inflictOn(
  world: World,
  kind: FaultKind,
  member: MemberHost,
  later: (low: number, high: number, heal: () => void) => void,
): void {
  const { peer, machine } = member;
  const { random } = world;
  switch (kind) {
    case 'memberCrash':
      member.crash();
      // A process that is killed closes its connections; a machine that loses power does not.
      if (random.chance(0.7)) world.ways.reset(peer);
      later(200, 40_000, () => {
        if (!machine.alive) member.boot();
      });
      break;
    case 'memberFreeze':
      machine.freeze();
      later(300, 60_000, () => machine.thaw());
      break;
    case 'partition':
    case 'oneWay': {
      const both: Direction[] = ['toFounder', 'toMember'];
      const directions = kind === 'partition' ? both : [random.pick(both)];
      world.ways.setDown(peer, directions, true);
      later(300, 60_000, () => world.ways.setDown(peer, directions, false));
      break;
    }
    case 'reset':
      world.ways.reset(peer);
      break;
    case 'latency':
      world.ways.links.get(peer)!.latencyMs = random.pick([0.3, 20, 150]);
      break;
    case 'ownerPause':
      member.owner('pause');
      later(300, 20_000, () => member.owner('resume'));
      break;
    case 'drain':
      world.ask({ op: 'member.eligible', member: peer, eligible: false });
      later(300, 20_000, () => world.ask({ op: 'member.eligible', member: peer, eligible: true }));
      break;
    case 'revoke':
      if (random.chance(0.4)) world.ask({ op: 'member.revoke', member: peer, reason: null });
      break;
    case 'leave':
      if (!random.chance(0.4)) break;
      world.ask({ op: 'member.leave', peer });
      if (random.chance(0.5)) later(3_000, 30_000, () => world.rejoin(member));
      break;
    default:
      inflictMore(world, kind, member, later);
  }
}

function inflictMore(
  world: World,
  kind: FaultKind,
  member: MemberHost,
  later: (low: number, high: number, heal: () => void) => void,
): void {
  const { random } = world;
  const { machine, peer } = member;
  switch (kind) {
    case 'loss': {
      const link = world.ways.links.get(peer)!;
      link.loss = random.pick([0.05, 0.2, 0.5]);
      later(300, 30_000, () => {
        link.loss = 0;
        link.disturbedAt = world.schedule.now;
      });
      break;
    }
    case 'halfOpen':
      world.ways.sever(member);
      break;
    case 'retell':
      // A driver that does not know whether it was heard says it again.
      for (const result of member.disk.ready.values()) sendIfOpen(world, member, { type: 'result', result });
      break;
    case 'oldDisk':
      member.crash();
      member.restoreOld();
      world.ways.reset(peer);
      later(200, 20_000, () => {
        if (!machine.alive) member.boot();
      });
      break;
    case 'memberDiskFull':
      member.diskIsFull = true;
      later(500, 20_000, () => {
        member.diskIsFull = false;
      });
      break;
    case 'pausedRestart':
      member.owner('pause');
      later(50, 1_000, () => {
        member.crash();
        world.ways.reset(peer);
        member.boot();
      });
      later(10_000, 40_000, () => member.owner('resume'));
      break;
    case 'ownerPolicy':
      member.policy('only at night');
      later(300, 20_000, () => member.policy(null));
      break;
    case 'ownerComes':
      member.policy('its owner is there', true);
      later(300, 20_000, () => member.policy(null));
      break;
    case 'oldFounder':
      world.ways.mislead(peer, true);
      later(300, 20_000, () => world.ways.mislead(peer, false));
      break;
    case 'capacityLie':
      member.liar = true;
      member.offer({
        ...member.capacity,
        slots: random.pick([0, 1, 16]),
        labels: random.pick([{}, { gpu: 'yes' }]),
      });
      later(500, 30_000, () => member.offer(null));
      break;
    case 'turns':
      member.forger = true;
      break;
    case 'lie':
      lie(world, member);
      break;
  }
}

function sendIfOpen(world: World, member: MemberHost, message: MemberMessage): void {
  // A process that is stopped says nothing, true or not.
  if (member.session !== null && member.core?.online && !member.machine.frozen)
    world.ways.tell(member, member.session, message);
}

/** Says of leases of others what would be true of its own, and results of others as they were and as they were not. */
function lie(world: World, member: MemberHost): void {
  const { random, said } = world;
  member.liar = true;
  for (let count = random.pick([1, 5, 40]); count > 0; count -= 1) {
    const other = said.length === 0 ? null : random.pick(said);
    if (other === null) return;
    const { task, epoch, correlation } = other;
    const attempt = random.chance(0.7) ? other.attempt : random.int(1, 99);
    const lease = { task, attempt, epoch, correlation };
    const role = random.pick([other.role, other.role === 'execute' ? 'verify' : 'execute'] as const);
    const commit = random.pick([other.commit, 'e'.repeat(40)]);
    const words: MemberMessage[] = [
      { type: 'started', ...lease },
      { type: 'stopped', ...lease, why: random.pick(['owner', 'paused', 'lease'] as const), detail: null },
      { type: 'progress', ...lease, phase: 'run', logBytes: 1 },
      { type: 'result', result: other },
      { type: 'result', result: { ...other, attempt, role, commit } },
    ];
    sendIfOpen(world, member, random.pick(words));
  }
}

export function freezeFounder(world: World, freeze: boolean): void {
  const own = world.members.get(peerOf('founder'));
  for (const machine of [world.founder.machine, own?.machine]) {
    if (freeze) machine?.freeze();
    else machine?.thaw();
  }
}

function pauseMesh(world: World, forMs: number): void {
  const { resumes } = world;
  world.ask({ op: 'mesh.pause' }, (_result, error) => {
    // The answer may be so late that somebody has asked for the contrary since.
    if (error !== null || world.resumes !== resumes) return;
    const { now } = world.schedule;
    world.pausedAt = now;
    world.schedule.after(1_000, () => checkPaused(world, now));
  });
  world.schedule.after(forMs, () => resumeMesh(world));
}

export function resumeMesh(world: World): void {
  world.pausedAt = null;
  world.resumes += 1;
  world.ask({ op: 'mesh.resume' });
}

/** The submitter was answered: from here on the task may not be lost (promise 16). */
export function acknowledge(world: World, result: unknown): void {
  const id = (result as { id?: string } | null)?.id;
  if (id === undefined) return;
  world.acknowledged.add(id);
  if (!world.log.knows(id)) throw new Violation('1 durable first', `${id} was acknowledged before its sync`);
}

/** Everything is well again, for good. */
export function heal(world: World): void {
  world.faulty = false;
  world.founder.mendDisk();
  world.bootFounder();
  freezeFounder(world, false);
  for (const [peer, member] of world.members) {
    world.ways.setDown(peer, ['toFounder', 'toMember'], false);
    world.ways.links.get(peer)!.loss = 0;
    world.ways.mislead(peer, false);
    // On a new session what it was told of leases that it made up counts no more.
    if (member.liar) world.ways.reset(peer);
    member.machine.thaw();
    member.diskIsFull = false;
    if (!member.machine.alive && !member.inProcess && world.founder.core?.state.members.byPeer.has(peer))
      member.boot();
    if (member.machine.alive) {
      member.owner('resume');
      member.policy(null);
      member.offer(null);
    }
    world.ask({ op: 'member.eligible', member: peer, eligible: true });
  }
  resumeMesh(world);
}
