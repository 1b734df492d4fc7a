import { type FounderConfig, retryBaseMs, retryMaxMs } from '../../hub/core/config.ts';
import type { FounderCore } from '../../hub/core/founder.ts';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { TERMINAL_STATES } from '../../protocol/task.ts';
import { Violation } from './violation.ts';

/** Leases that a founder remembers to have told one member to stop. */
const stoppingMax = 1_024 + 64;
/** Clocks drift; what is measured by one may be short by so much of it on another. */
const driftShare = 0.01;

/**
 * What must hold after each step of the founder, at the cost of what the step changed: nothing it holds grows past its bound
 * (promise 18), every open task that the step touched is kept where something follows for it (promise 16), and what backs
 * off is not given out before its time (promise 18).
 */
export class StepChecker {
  readonly #config: FounderConfig;
  readonly #endedMax: number;
  /** Tasks whose last execution ended by the task's own fault → when, in true ms. */
  readonly #failedAt = new Map<string, number>();

  constructor(config: FounderConfig, endedMax: number) {
    this.#config = config;
    this.#endedMax = endedMax;
  }

  /** `peer`: whose input it was, if a member's. */
  check(core: FounderCore, events: readonly LogEvent[], peer: string | null, now: number): void {
    this.#bounds(core, peer);
    for (const { type, body } of events) {
      if (!('task' in body)) continue;
      const { task } = body;
      if (type === 'attempt.ended') this.#ended(core, task, body.fault, now);
      if (type === 'attempt.assigned' && body.role === 'execute') this.#assigned(core, task, now);
      if (type === 'task.converged') this.#failedAt.delete(task);
      this.#placed(core, task);
    }
  }

  #bounds(core: FounderCore, peer: string | null): void {
    const { tasks, members } = core.state;
    const open = tasks.open.size;
    const sizes = core.sizes(peer);
    const { ringSlots, elasticSlots, lateResultsMax } = this.#config;
    const { queued, asking, held, unverified, parked, troubled, times } = sizes;
    const bounds: [string, number, number][] = [
      ['leases', sizes.leases, Math.max(ringSlots, elasticSlots)],
      ['late results', sizes.late, lateResultsMax],
      ['recalled results', sizes.recalling, lateResultsMax],
      ['queued or asking', queued + asking + held + unverified + parked, open],
      ['troubled tasks', troubled, open],
      ['times', times, open],
      ['live members', sizes.live, members.byPeer.size],
      ['leases told to stop', sizes.stopping, stoppingMax],
      ['tasks of the state', tasks.byId.size, open + this.#endedMax],
    ];
    for (const [what, is, max] of bounds)
      if (is > max) throw new Violation('18 bounds', `${is} ${what}, at most ${max} may be`);
  }

  /** An executed task whose result can never be verified waits for a person, and is nowhere else. */
  #placed(core: FounderCore, id: string): void {
    const task = core.state.tasks.byId.get(id);
    if (task === undefined || TERMINAL_STATES.has(task.state) || core.placeOf(id) !== null) return;
    if (task.state === 'executed' && task.spec.requireVerified) return;
    // What comes in after the kill switch goes out when the mesh is resumed.
    if (core.state.mesh.paused && (task.state === 'executed' || task.state === 'verified')) return;
    throw new Violation('16 nothing lost', `task ${id} is ${task.state}, and nothing will follow for it`);
  }

  #ended(core: FounderCore, id: string, fault: string, now: number): void {
    const last = core.state.tasks.byId.get(id)?.lastEnd;
    if (fault === 'task' && last?.fault === 'task') this.#failedAt.set(id, now);
    else this.#failedAt.delete(id);
  }

  #assigned(core: FounderCore, id: string, now: number): void {
    const failedAt = this.#failedAt.get(id);
    const task = core.state.tasks.byId.get(id);
    if (failedAt === undefined || task === undefined) return;
    const wait = Math.min(retryMaxMs, retryBaseMs * 2 ** Math.max(0, task.retriesUsed - 1)) / 2;
    if (now - failedAt >= wait * (1 - driftShare)) return;
    throw new Violation('18 bounds', `task ${id} is tried ${now - failedAt} ms after it failed, not ${wait}`);
  }
}
