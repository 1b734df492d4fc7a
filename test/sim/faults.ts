import { peerOf } from '../hub/core/fleet.ts';
import type { MemberHost } from './member-host.ts';
import type { Direction } from './network.ts';
import type { FaultKind } from './scenario.ts';
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
      later(500, 20_000, () => {
        founder.syncMs = 2;
      });
      return;
    case 'wallJump':
      founder.machine.jumpWall(random.between(-1e8, 1e8));
      member?.machine.jumpWall(random.between(-1e8, 1e8));
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
      if (kind === 'stopTask') world.ask({ op: 'task.stop', task });
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
      if (random.chance(0.7)) world.reset(peer);
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
      world.setDown(peer, directions, true);
      later(300, 60_000, () => world.setDown(peer, directions, false));
      break;
    }
    case 'reset':
      world.reset(peer);
      break;
    case 'latency':
      world.links.get(peer)!.latencyMs = random.pick([0.3, 20, 150]);
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
      if (random.chance(0.4)) world.ask({ op: 'member.leave', peer });
      break;
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
    world.schedule.after(1_000, () => world.checkPaused(now));
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
  const durable = world.founder.lines.slice(0, world.founder.durable);
  if (!durable.some((line) => line.includes(`"task":"${id}"`)))
    throw new Error(`${id} was acknowledged before its sync`);
}

/** Everything is well again, for good. */
export function heal(world: World): void {
  world.faulty = false;
  world.founder.syncMs = 2;
  world.bootFounder();
  freezeFounder(world, false);
  for (const [peer, member] of world.members) {
    world.setDown(peer, ['toFounder', 'toMember'], false);
    member.machine.thaw();
    if (!member.machine.alive && !member.inProcess && world.founder.core?.state.members.byPeer.has(peer))
      member.boot();
    if (member.machine.alive) member.owner('resume');
    world.ask({ op: 'member.eligible', member: peer, eligible: true });
  }
  resumeMesh(world);
}
