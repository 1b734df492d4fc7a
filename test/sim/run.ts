import { createHash } from 'node:crypto';
import type { Why } from '../../hub/core/answers/why-answer.ts';
import type { Operation } from '../../hub/core/types.ts';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import type { Page, TaskObject } from '../../node/api/objects.ts';
import { TERMINAL_STATES } from '../../protocol/task.ts';
import { replayAll } from '../ledger/archived.ts';
import { acknowledge, heal, inflict } from './faults.ts';
import { attend } from './person.ts';
import { Random } from './random.ts';
import { BUNDLE, type Scenario, scenarioOf } from './scenario.ts';
import { checkerOf, Violation } from './violation.ts';
import { checkReplay } from './watch.ts';
import { World } from './world.ts';

export interface RunOptions {
  /** The same run with other wall clocks. @default the seed */
  wallSeed?: string;
  /** Events after which the run ends, checked or not. @default `eventsMax` */
  steps?: number;
  /** Ended tasks that the founder's state keeps. @default those of a real one */
  endedTasks?: number;
  /** The founder starts from a snapshot each time. @default false: from the whole log */
  fromSnapshots?: boolean;
  /** Of the faults of the seed only those at these places. @default all */
  keep?: readonly number[];
  /** Of the tasks of the seed only so many, the first. @default all */
  tasks?: number;
  /** Takes every message, entry and fault as a line. */
  trace?: (text: string) => void;
  /** Takes the log at the end. */
  ended?: (entries: Entry[]) => void;
}

export interface Report {
  seed: number;
  events: number;
  virtualMs: number;
  tasks: number;
  delivered: number;
  verified: number;
  failed: number;
  cancelled: number;
  waiting: number;
  evidence: number;
  /** How often owners sat down while something ran on their machines, and attempts that were ended by that. */
  owners: { suspended: number; evicted: number };
  /** Entries of each kind by which a model, or a check, is heard; `continued`: tasks that go on from a part. */
  signals: Record<'asked' | 'doubted' | 'rejected' | 'partial' | 'flaky' | 'continued', number>;
  entries: number;
  /** Starts of the founder that went by a snapshot. */
  restarts: number;
  /** Digest of the log without its times. */
  decisions: string;
}

/** More than any run needs; a run that reaches it goes round in circles. */
const eventsMax = 4_000_000;
/** Virtual ms after the last fault in which all must have come to rest: hours, where a forger is the only worker. */
const restMaxMs = 10_000_000;

/** The command that runs it again. */
export function replayCommand(seed: number, { keep, tasks, endedTasks }: RunOptions = {}): string {
  const parts = [
    keep === undefined ? [] : ['--keep', keep.join(',') || 'none'],
    tasks === undefined ? [] : ['--tasks', tasks],
    endedTasks === undefined ? [] : ['--small'],
  ];
  return ['npm run sim -- --seed', seed, ...parts.flat()].join(' ');
}

/** A founder that keeps next to nothing of what has ended, and starts from snapshots (`--small`). */
export const small: RunOptions = { fromSnapshots: true, endedTasks: 2 };

/** How a seed is run where many are: every third with a small founder. */
export const usual = (seed: number): RunOptions => (seed % 3 === 0 ? small : {});

/** What a seed does, or as much of it as is asked for. */
export function scenarioFor(seed: number, { keep, tasks }: RunOptions = {}): Scenario {
  const scenario = scenarioOf(
    new Random(`${seed}/scenario`),
    new Random(`${seed}/more`),
    new Random(`${seed}/order`),
    new Random(`${seed}/owners`),
    new Random(`${seed}/epochs`),
    new Random(`${seed}/turns`),
  );
  if (keep !== undefined) scenario.faults = scenario.faults.filter((_fault, at) => keep.includes(at));
  if (tasks !== undefined) scenario.tasks = scenario.tasks.slice(0, tasks);
  return scenario;
}

/** Runs one seed to its end and checks it. Throws a `Violation` or whatever the cores threw, with the seed named. */
export function runSeed(seed: number, options: RunOptions = {}): Report {
  const scenario = scenarioFor(seed, options);
  const { wallSeed = String(seed), trace = null, endedTasks, fromSnapshots = false } = options;
  const bounds = endedTasks === undefined ? undefined : { endedTasks };
  const world = new World(String(seed), wallSeed, scenario, trace, bounds);
  world.founder.fromSnapshots = fromSnapshots;
  const { schedule } = world;
  try {
    for (const task of scenario.tasks) schedule.at(task.at, () => submit(world, task));
    attend(world, seed);
    for (const { at, kind } of scenario.faults) schedule.at(at, () => inflict(world, kind));
    if (scenario.secretAt !== null) schedule.at(scenario.secretAt, () => setSecret(world));
    const stepsMax = Math.min(options.steps ?? eventsMax, eventsMax);
    while (schedule.now < scenario.faultsEnd && schedule.ran < stepsMax && schedule.step());
    heal(world);
    rest(world, scenario.faultsEnd + restMaxMs, stepsMax);
    if (options.steps === undefined) checkEnd(world);
    options.ended?.(world.founder.entries());
    return report(seed, world);
  } catch (error) {
    const message = error instanceof Error ? error.message : String(error);
    const text = `seed ${seed}: ${message}\nreplay: ${replayCommand(seed, options)}`;
    throw new Violation(checkerOf(error), text, { cause: error });
  }
}

/** Runs a seed twice, the second time with other wall clocks, which jump and drift otherwise: the decisions are the same (promise 11). */
export function runBothWalls(seed: number, options: RunOptions = {}): Report {
  const logs: Entry[][] = [];
  const ended = (log: Entry[]): void => void logs.push(log);
  const report = runSeed(seed, { ...options, ended });
  const other = runSeed(seed, { ...options, ended, wallSeed: `not ${options.wallSeed ?? seed}` });
  if (other.decisions === report.decisions) return report;
  const [one, two] = logs.map((log) => log.map(timeless));
  const at = one!.findIndex((line, index) => line !== two![index]);
  const why = `other wall clocks, and entry ${at} is ${two![at]?.slice(0, 200)}, not ${one![at]?.slice(0, 200)}`;
  const text = `seed ${seed}: ${why}\nreplay: ${replayCommand(seed, options)} --walls`;
  throw new Violation('11 wall clocks', text);
}

const timeless = ({ index, epoch, type, body }: Entry): string => JSON.stringify([index, epoch, type, body]);

/** The log that a seed leaves behind: entries of every kind, in an order that happened. */
export function simulatedLog(seed: number): Entry[] {
  let entries: Entry[] = [];
  runSeed(seed, { ended: (log) => (entries = log) });
  return entries;
}

function submit(world: World, { spec, schedule }: Scenario['tasks'][number]): void {
  const bundle = spec.repository === null ? null : BUNDLE;
  const operation = { op: 'task.submit' as const, spec, bundle, correlation: null };
  const { behind = 0, ...asked } = schedule ?? {};
  const after = [...world.acknowledged].reverse().slice(0, behind);
  const whole = after.length === 0 ? asked : { ...asked, after };
  world.ask(schedule === null ? operation : { ...operation, schedule: whole }, (result, error) => {
    // One that it was to come after has come to nothing meanwhile.
    if (error === null) acknowledge(world, result);
  });
}

function setSecret(world: World): void {
  world.founder.secrets.set('TOKEN', 'value');
  world.founder.machine.deliver(() =>
    world.founder.step({ type: 'secrets', values: new Map(world.founder.secrets) }),
  );
}

/** Runs until nothing is left to do, or says what was. */
function rest(world: World, until: number, stepsMax: number): void {
  const { schedule } = world;
  let unrest: string | null = 'not looked at yet';
  for (let next = schedule.now + 20_000; unrest !== null; next = schedule.now + 5_000) {
    while (schedule.now < next && schedule.ran < stepsMax && schedule.step());
    if (schedule.ran >= stepsMax && stepsMax < eventsMax) return;
    unrest = unrestOf(world);
    if (unrest !== null && (schedule.now >= until || schedule.ran >= stepsMax)) {
      throw new Violation(
        '16 nothing lost',
        `not at rest ${Math.round((schedule.now - world.scenario.faultsEnd) / 1000)} s after: ${unrest}`,
      );
    }
  }
}

function unrestOf(world: World): string | null {
  const { core } = world.founder;
  if (core === null) return 'the founder is down';
  for (const id of core.state.tasks.open) {
    const task = core.state.tasks.byId.get(id)!;
    if (!mayWait(world, task)) {
      return `task ${id} is ${task.state} (promise 16): ${JSON.stringify(whyOf(world, id))}`;
    }
  }
  if (core.verifyingAgain.length > 0) return `verified again: ${core.verifyingAgain.join()}`;
  for (const member of world.members.values()) {
    const active = core.state.members.byPeer.get(member.peer)?.standing === 'active';
    if (!member.machine.alive || !active) continue;
    if (member.running.size > 0) return `${world.nameOf(member.peer)} runs ${[...member.running.keys()]}`;
    if (member.disk.ready.size > 0)
      return `${world.nameOf(member.peer)} keeps ${[...member.disk.ready.keys()]}`;
  }
  return null;
}

/** Whether the world gives this open task a reason to wait for ever; told apart from the core's own words. */
function mayWait(world: World, task: TaskRecord, asked: readonly string[] = []): boolean {
  const { core, secrets } = world.founder;
  const { members } = core!.state;
  const active = [...members.byPeer.values()].filter((member) => member.standing === 'active');
  const workers = active.filter((member) => member.roles.includes('worker'));
  if (task.state === 'queued') {
    if (waitsForOther(world, task, asked)) return true;
    if (task.spec.secrets.some((name) => !secrets.has(name))) return true;
    const labelsOf = (peer: string): Record<string, string> => world.plans.get(peer)?.labels ?? {};
    // A machine that only ever fails rests between its attempts: the task ends, but not while anybody watches.
    const fit = workers.filter(
      (member) =>
        world.members.get(member.peer)?.forger !== true &&
        (task.spec.on === null || task.spec.on === member.name) &&
        (task.spec.kind === 'command' || (world.plans.get(member.peer)?.models ?? []).length > 0) &&
        (task.spec.labels.gpu === undefined || labelsOf(member.peer).gpu === task.spec.labels.gpu),
    );
    return fit.length === 0;
  }
  if (task.state !== 'executed' || !task.spec.requireVerified) return false;
  if (task.spec.checks.length === 0 || task.accepted!.checksChanged.length > 0) return true;
  if (task.flaky !== undefined) return true;
  if (task.verifierFaults >= 5) return true;
  const executor = members.byPeer.get(task.accepted!.member)!;
  const several = new Set(active.map((member) => member.owner)).size > 1;
  return !workers.some(
    (member) =>
      member.peer !== executor.peer &&
      !(several && member.owner === executor.owner) &&
      !task.unfit.includes(member.peer),
  );
}

/** Whether it comes after a task that may wait for ever itself, or shares a group with one that may. `asked`: who asks, one for the other. */
function waitsForOther(world: World, { id, schedule }: TaskRecord, asked: readonly string[]): boolean {
  const { byId, open } = world.founder.core!.state.tasks;
  const stuck = (other: string): boolean =>
    open.has(other) && !asked.includes(other) && mayWait(world, byId.get(other)!, [...asked, id]);
  if (schedule?.after?.some(stuck)) return true;
  const name = schedule?.group?.name;
  if (name === undefined) return false;
  return [...open].some(
    (other) => other !== id && byId.get(other)!.schedule?.group?.name === name && stuck(other),
  );
}

function checkEnd(world: World): void {
  const { founder } = world;
  while (founder.durable < founder.lines.length && world.schedule.step());
  const entries = founder.entries();
  if (world.log.size !== entries.length) throw new Violation('log', 'not every entry was looked at');
  checkReplay(world);
  const all = replayAll(entries).tasks;
  for (const id of world.acknowledged) {
    const task = all.byId.get(id);
    if (task === undefined)
      throw new Violation('16 nothing lost', `task ${id} was acknowledged and is gone (promise 16)`);
    if (!TERMINAL_STATES.has(task.state)) checkWhy(world, id);
  }
  checkList(world, [...all.byId.keys()].reverse());
  for (const entry of entries) {
    const { envelope } = entry.body as { envelope?: string | null };
    if (entry.type === 'task.executed' && !founder.blobs.has(envelope ?? '')) {
      throw new Violation('16 nothing lost', `entry ${entry.index} names a receipt that is not on the disk`);
    }
  }
}

function checkWhy(world: World, task: string): void {
  const why = whyOf(world, task);
  if (why === null || why.reasons.length === 0) {
    throw new Violation('16 nothing lost', `task ${task} waits, and nothing says why (promise 16)`);
  }
}

/** What the founder says of it when asked. */
const whyOf = (world: World, task: string): Why | null => asked<Why>(world, { op: 'task.why', task });

/** Page by page it lists every task there ever was, and each can be had. */
function checkList(world: World, expected: string[]): void {
  const listed: string[] = [];
  for (let cursor: string | null = null; ; ) {
    const page: Page<TaskObject> | null = asked(world, { op: 'task.list', states: null, cursor, limit: 3 });
    if (page === null) throw new Violation('16 nothing lost', 'the founder lists no tasks');
    for (const { id, state } of page.items) {
      listed.push(id);
      const task = asked<TaskObject>(world, { op: 'task.get', task: id });
      // One that may wait for ever is tried now and then, also between two questions.
      const goesOn = task !== null && !TERMINAL_STATES.has(task.state) && !TERMINAL_STATES.has(state);
      if (task?.state !== state && !goesOn)
        throw new Violation('16 nothing lost', `task ${id} is ${state} in the list, and ${task?.state}`);
    }
    cursor = page.next;
    if (cursor === null) break;
  }
  if (listed.join() !== expected.join())
    throw new Violation('16 nothing lost', `listed ${listed}, not ${expected}`);
}

/** The founder's answer; null where it gives none. */
function asked<T>(world: World, operation: Operation): T | null {
  let answer: T | null = null;
  const { ran } = world.schedule;
  world.ask(operation, (result) => {
    answer = result as T;
  });
  while (answer === null && world.schedule.ran < ran + 1000 && world.schedule.step());
  return answer;
}

function report(seed: number, world: World): Report {
  const entries = world.founder.entries();
  const tasks = [...replayAll(entries).tasks.byId.values()];
  const count = (state: string): number => tasks.filter((task) => task.state === state).length;
  return {
    seed,
    events: world.schedule.ran,
    virtualMs: Math.round(world.schedule.now),
    tasks: tasks.length,
    delivered: count('delivered'),
    verified: tasks.filter((task) => task.converged?.verified).length,
    failed: count('failed'),
    cancelled: count('cancelled'),
    waiting: world.founder.core?.state.tasks.open.size ?? 0,
    evidence: entries.filter((entry) => entry.type === 'task.evidence').length,
    owners: ownersOf(world),
    signals: {
      asked: entries.filter(({ type }) => type === 'task.asked').length,
      doubted: entries.filter(({ type }) => type === 'task.doubted').length,
      rejected: entries.filter(({ type }) => type === 'task.rejected').length,
      partial: entries.filter(({ type }) => type === 'task.partial').length,
      flaky: entries.filter(({ type }) => type === 'task.flaky').length,
      continued: tasks.filter((task) => task.continues !== undefined).length,
    },
    entries: entries.length,
    restarts: world.founder.restarts,
    decisions: createHash('sha256').update(entries.map(timeless).join('\n')).digest('hex'),
  };
}

function ownersOf({ members }: World): Report['owners'] {
  const owners = { suspended: 0, evicted: 0 };
  for (const { owned } of members.values()) {
    owners.suspended += owned.suspended;
    owners.evicted += owned.evicted;
  }
  return owners;
}
