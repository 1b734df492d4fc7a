import { setTimeout as delay } from 'node:timers/promises';
import type { Log } from '../../ledger/log/log.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { Host } from '../../node/network/host.ts';
import { askTip } from '../../node/replica/follow.ts';
import type { LogSource } from '../../node/replica/source.ts';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { logKeys } from '../../protocol/handover.ts';
import { publicKeyFromBase64, publicKeyToBase64 } from '../../protocol/keys.ts';
import type { LogTip } from '../../protocol/log-sync.ts';
import type { HandoverReport, HandoverStep } from '../api/port.ts';
import type { FounderDriver } from './founder.ts';

/** The replica gets what it lacks of blobs within this: a mesh's artifacts over a slow LAN. */
const BLOBS_MS = 30 * 60_000;
/** One answer of the replica. */
const ASK_MS = 5_000;
const ASK_AGAIN_MS = 200;
/** The mesh stands still no longer than this for a replica that does not keep up; then all goes on as before. */
const HELD_MS = 5_000;
/** The replica has this long to say that it holds the handover; it may get it later from this machine, as a member. */
const TAKEN_MS = 3_000;

export interface HandoverParts {
  driver: Pick<FounderDriver, 'hold' | 'release' | 'tell' | 'stop'>;
  log: Log;
  source: Pick<LogSource, 'followers' | 'acknowledged'>;
  host: Pick<Host, 'peer' | 'dial'>;
  state(): MeshState;
  /** Keeps where the new founder will be, for the case that this process dies right after the handover. */
  prepare(addresses: string[]): Promise<void>;
  /** The handover was given up: forgets that. */
  forget(): Promise<void>;
  /** This machine is a member from here on. */
  becomeMember(addresses: string[]): void;
  /** The log can no longer be trusted with anything. */
  failed(error: SuperfleetError): void;
}

/** Hands the mesh over to a replica, once; what stands in the way is found before anything is stopped. */
export class Handover {
  readonly #parts: HandoverParts;
  #running = false;

  constructor(parts: HandoverParts) {
    this.#parts = parts;
  }

  /**
   * `node`: name or peer id of a replica. Until the handover is in the log a fault or `signal` leaves everything as it was;
   * from then on this founder is fenced, whatever happens (promise 8).
   */
  async run(node: string, tell: (step: HandoverStep) => void, signal: AbortSignal): Promise<HandoverReport> {
    if (this.#running) throw conflict('the mesh is being handed over already', 'wait for the other handover');
    this.#running = true;
    try {
      const target = this.#target(node);
      const next = await this.#readied(target, tell, signal);
      return await this.#handOver(target, next, tell, signal);
    } finally {
      this.#running = false;
    }
  }

  #target(node: string): { peer: string; name: string } {
    const { state, host } = this.#parts;
    const { members } = state();
    const found = [...members.byPeer.values()].find(({ peer, name, standing }) => {
      return standing === 'active' && (peer === node || name === node);
    });
    if (found === undefined) {
      throw new SuperfleetError('SF_NOT_FOUND', `there is no member ${node}`, { hint: 'mesh-hub node list' });
    }
    if (found.peer === host.peer)
      throw conflict(`${node} is the founder`, 'name a replica: mesh-hub node list');
    if (!found.roles.includes('replica')) {
      const roles = found.roles.join(', ') || 'no role';
      throw conflict(
        `${node} is no replica`,
        'invite one: mesh-hub invite --role worker --role replica',
        'a member with the role replica',
        roles,
      );
    }
    return { peer: found.peer, name: found.name };
  }

  /** Waits until the replica follows and has what the log names; answers with the key it will sign with. */
  async #readied(
    { peer, name }: { peer: string; name: string },
    tell: (step: HandoverStep) => void,
    signal: AbortSignal,
  ): Promise<NonNullable<LogTip['next']>> {
    const { source, log } = this.#parts;
    const deadline = performance.now() + BLOBS_MS;
    for (let told = -1; ; ) {
      signal.throwIfAborted();
      if (!source.followers.some((follower) => follower.peer === peer)) {
        throw conflict(`${name} does not follow the log now`, `start it, and try again: mesh-node start`);
      }
      const tip = await this.#ask(peer, signal);
      if (tip.next === undefined) {
        throw conflict(`${name} cannot be made the founder`, 'install the same release on both machines');
      }
      const { logKey } = tip.next;
      if (logKeys(log.leadership).some((key) => publicKeyToBase64(key) === logKey)) {
        throw conflict(
          `the key that ${name} would sign with has signed this log before`,
          `on ${name}: remove next.key, and start it again`,
        );
      }
      const missing = tip.missing ?? 0;
      if (missing === 0) return tip.next;
      if (missing !== told) tell({ step: 'blobs', left: missing });
      told = missing;
      if (performance.now() > deadline) throw late(`${name} still lacks ${missing} of the mesh’s files`);
      await delay(ASK_AGAIN_MS, undefined, { signal });
    }
  }

  async #ask(peer: string, signal: AbortSignal): Promise<LogTip> {
    const { host, log } = this.#parts;
    const within = AbortSignal.any([signal, AbortSignal.timeout(ASK_MS)]);
    return askTip(await host.dial(peer, [], within), log.meshId, within);
  }

  async #handOver(
    { peer, name }: { peer: string; name: string },
    next: NonNullable<LogTip['next']>,
    tell: (step: HandoverStep) => void,
    signal: AbortSignal,
  ): Promise<HandoverReport> {
    const { driver, log, becomeMember, failed } = this.#parts;
    await this.#parts.prepare(next.addresses);
    tell({ step: 'held', left: 0 });
    const heldAt = performance.now();
    driver.hold();
    try {
      await this.#untilHeld(peer, HELD_MS, signal);
    } catch (thrown) {
      driver.release();
      await this.#parts.forget();
      throw thrown;
    }
    try {
      await log.handOver({ founder: peer, logKey: publicKeyFromBase64(next.logKey) }, Date.now());
    } catch (thrown) {
      // Whether it was written is for the next start to see.
      failed(asSuperfleetError(thrown));
      throw thrown;
    }
    driver.stop(movedTo(name));
    tell({ step: 'fenced', left: 0 });
    // Too late to go back: nobody's patience ends this any more.
    const taken = await this.#untilHeld(peer, TAKEN_MS, new AbortController().signal).then(
      () => true,
      () => false,
    );
    const { leadership } = log;
    const handovers = leadership.handovers.map(({ line }) => line);
    driver.tell({ type: 'handover', handovers, addresses: next.addresses }, 2);
    const { epoch } = leadership;
    const heldMs = Math.round(performance.now() - heldAt);
    setTimeout(() => becomeMember(next.addresses), ANSWER_MS);
    return { mesh: log.meshId, epoch, founder: { id: peer, name }, size: log.size, heldMs, taken };
  }

  /** Waits until the replica has acknowledged all that is durable; `SF_TIMEOUT` where it does not in time. */
  async #untilHeld(peer: string, ms: number, signal: AbortSignal): Promise<void> {
    const { source, log } = this.#parts;
    const deadline = performance.now() + ms;
    // A replica that begins to follow says what it holds; one that takes over follows nobody.
    const held = (): boolean =>
      source.acknowledged(peer) === log.size ||
      source.followers.some((one) => one.peer === peer && one.size === log.size);
    while (log.next !== log.size || !held()) {
      signal.throwIfAborted();
      if (performance.now() > deadline) throw late('the replica does not keep up with the log');
      await delay(POLL_MS, undefined, { signal });
    }
  }
}

/** The last answer leaves before the socket is closed. */
const ANSWER_MS = 50;
/** Acknowledgements come within a round trip; looked for so often. */
const POLL_MS = 2;

const conflict = (message: string, hint: string, expected?: string, got?: string): SuperfleetError =>
  new SuperfleetError('SF_CONFLICT', message, { hint, expected: expected ?? null, got: got ?? null });

const late = (message: string): SuperfleetError =>
  new SuperfleetError('SF_TIMEOUT', message, {
    hint: 'nothing was changed, and everything goes on as before; try again later, or name another replica',
  });

const movedTo = (name: string): SuperfleetError =>
  new SuperfleetError('SF_UNREACHABLE', `the mesh was handed over to ${name}`, {
    hint: `try again in a moment, on ${name} or on any member: mesh-node task …`,
  });
