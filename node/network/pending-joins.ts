import { SuperfleetError } from '../../protocol/errors.ts';
import { joinTriesMax, pendingJoinMs, pendingJoinsMax } from '../../protocol/limits.ts';
import { parseShortCode } from '../../protocol/short-code.ts';

/** What a new member is handed: its proofs, as JSON text. */
export interface Admitted {
  genesis: string;
  /** Lines by which the mesh changed hands since. @default none */
  handovers?: string[];
  certificate: string;
  roster: string | null;
  /** The invite's; null: it named none. @default null */
  policy?: string | null;
}

export interface Applicant {
  /** Peer id, as the connection proved it. */
  peer: string;
  name: string;
  owner: string | null;
  /** A person chose the name: no other will do. */
  exact: boolean;
}

/** A request that waits for a person. */
export interface PendingJoin extends Applicant {
  /** `123-456-789`, on both screens. */
  code: string;
  /** IP address it came from. */
  address: string;
  /** Unix ms, to be shown. */
  since: number;
}

export interface PendingLimits {
  /** @default pendingJoinsMax */
  pendingMax: number;
  /** From one address, so that one machine cannot keep the others out. @default half of them */
  pendingPerAddressMax: number;
  /** @default pendingJoinMs */
  pendingMs: number;
  /** Requests begun within `pendingMs`, and from one address; who is approved is not counted. @default joinTriesMax */
  triesMax: number;
  triesPerAddressMax: number;
}

interface Waiting {
  join: PendingJoin;
  timer: NodeJS.Timeout;
  /** A person's word is being carried out: nothing else ends the request meanwhile. */
  deciding: boolean;
  resolve(admitted: Admitted): void;
  reject(error: SuperfleetError): void;
}

interface Listener {
  added(join: PendingJoin): void;
  gone(join: PendingJoin, why: 'approved' | 'rejected' | 'expired' | 'left'): void;
}

/** The requests for approval of one founder: few, each with one code, one decision and one deadline. */
export class PendingJoins {
  readonly #limits: PendingLimits;
  readonly #listener: Listener;
  readonly #waiting = new Map<string, Waiting>();
  /** Requests begun of late: address, and when (monotonic ms), oldest first. */
  #tries: { address: string; at: number }[] = [];

  constructor(limits: Partial<PendingLimits>, listener: Listener) {
    this.#limits = {
      pendingMax: limits.pendingMax ?? pendingJoinsMax,
      pendingPerAddressMax: limits.pendingPerAddressMax ?? Math.ceil(pendingJoinsMax / 2),
      pendingMs: limits.pendingMs ?? pendingJoinMs,
      triesMax: limits.triesMax ?? joinTriesMax,
      triesPerAddressMax: limits.triesPerAddressMax ?? Math.ceil(joinTriesMax / 4),
    };
    this.#listener = listener;
  }

  get pendingMs(): number {
    return this.#limits.pendingMs;
  }

  list(): PendingJoin[] {
    return [...this.#waiting.values()].map(({ join }) => join);
  }

  /**
   * A request begins, and is about to be shown a nonce. `SF_FULL` where none can wait, or too many began of late: each is
   * a draw for the code that another machine shows, and without a bound of draws somebody between the two would hit it.
   */
  begin(address: string): void {
    this.#requireRoom(address);
    const { triesMax, triesPerAddressMax, pendingMs } = this.#limits;
    const now = performance.now();
    this.#tries = this.#tries.filter(({ at }) => now - at < pendingMs);
    const here = this.#tries.filter((one) => one.address === address).length;
    if (this.#tries.length >= triesMax || here >= triesPerAddressMax) {
      throw new SuperfleetError('SF_FULL', 'too many machines have asked to join of late', {
        expected: `at most ${triesMax} in ${pendingMs / 1000} s, and ${triesPerAddressMax} from one address`,
        got: `${this.#tries.length}, and ${here} from ${address}`,
        hint: 'wait a few minutes, or join with a token',
      });
    }
    this.#tries.push({ address, at: now });
  }

  #requireRoom(address: string): void {
    const { pendingMax, pendingPerAddressMax } = this.#limits;
    const here = this.list().filter((join) => join.address === address).length;
    if (this.#waiting.size < pendingMax && here < pendingPerAddressMax) return;
    throw new SuperfleetError('SF_FULL', 'too many machines wait to be approved', {
      expected: `at most ${pendingMax}, and ${pendingPerAddressMax} from one address`,
      got: `${this.#waiting.size}, and ${here} from ${address}`,
      hint: 'approve or reject those that wait (mesh-hub node list), or join with a token',
    });
  }

  /** Settles with the person's word: resolves with the admission, rejects with `SF_REJECTED` or `SF_EXPIRED`. */
  add(applicant: Applicant, code: string, address: string): Promise<Admitted> {
    // One request a machine: who asks again has given up the first.
    for (const { join } of this.#waiting.values()) if (join.peer === applicant.peer) this.left(join.code);
    this.#requireRoom(address);
    if (this.#waiting.has(code)) {
      throw new SuperfleetError('SF_CONFLICT', 'another request has the same code', { hint: 'begin anew' });
    }
    const join: PendingJoin = { ...applicant, code, address, since: Date.now() };
    const decision = new Promise<Admitted>((resolve, reject) => {
      const timer = setTimeout(() => {
        const error = new SuperfleetError('SF_EXPIRED', 'nobody approved this machine in time', {
          expected: `mesh-hub node approve ${code} within ${this.#limits.pendingMs / 1000} s`,
          hint: 'begin anew: mesh-node join',
        });
        this.#end(code, 'expired', (waiting) => waiting.reject(error));
      }, this.#limits.pendingMs);
      this.#waiting.set(code, { join, timer, deciding: false, resolve, reject });
    });
    // Whoever asked may be gone before it awaits this.
    decision.catch(() => {});
    this.#listener.added(join);
    return decision;
  }

  async approve(typed: string, admit: (applicant: Applicant) => Promise<Admitted>): Promise<PendingJoin> {
    const waiting = this.#get(typed);
    waiting.deciding = true;
    try {
      const { peer, name, owner, exact, code } = waiting.join;
      const admitted = await admit({ peer, name, owner, exact });
      waiting.deciding = false;
      this.#end(code, 'approved', () => waiting.resolve(admitted));
      const tried = this.#tries.findIndex(({ address }) => address === waiting.join.address);
      if (tried !== -1) this.#tries.splice(tried, 1);
      return waiting.join;
    } finally {
      waiting.deciding = false;
    }
  }

  reject(typed: string): PendingJoin {
    const { join } = this.#get(typed);
    const error = new SuperfleetError('SF_REJECTED', 'the operator of the founder said no');
    this.#end(join.code, 'rejected', (waiting) => waiting.reject(error));
    return join;
  }

  /** The joiner has gone; its request goes with it. */
  left(code: string): void {
    this.#end(code, 'left', (waiting) => {
      waiting.reject(new SuperfleetError('SF_UNREACHABLE', 'the machine that asked to join has gone'));
    });
  }

  #get(typed: string): Waiting {
    const code = parseShortCode(typed);
    const waiting = this.#waiting.get(code);
    if (waiting === undefined) {
      throw new SuperfleetError('SF_NOT_FOUND', `no machine waits with the code ${code}`, {
        expected:
          this.list()
            .map((join) => join.code)
            .join(', ') || 'a machine that waits; none does now',
        got: code,
        hint: 'compare it with the screen of the machine; a request lasts five minutes, then: mesh-node join',
      });
    }
    if (waiting.deciding) throw new SuperfleetError('SF_CONFLICT', `${code} is being approved already`);
    return waiting;
  }

  #end(
    code: string,
    why: 'approved' | 'rejected' | 'expired' | 'left',
    settle: (waiting: Waiting) => void,
  ): void {
    const waiting = this.#waiting.get(code);
    if (waiting === undefined || waiting.deciding) return;
    clearTimeout(waiting.timer);
    this.#waiting.delete(code);
    settle(waiting);
    this.#listener.gone(waiting.join, why);
  }
}
