import { randomBytes } from 'node:crypto';
import type { Connection, Stream } from '@libp2p/interface';
import { asSuperfleetError, SuperfleetError } from '../../protocol/errors.ts';
import { frameOf, parseFrame } from '../../protocol/frame.ts';
import { newNonce } from '../../protocol/ids.ts';
import { secretHash } from '../../protocol/invite.ts';
import {
  JOIN_PROTOCOL,
  type JoinAnswer,
  type JoinerMessage,
  joinerSchema,
  joinRequestBytesMax,
  joinRosterBytesMax,
} from '../../protocol/join.ts';
import { strangerMs } from '../../protocol/limits.ts';
import { opensCommitment, shortCode } from '../../protocol/short-code.ts';
import { FrameChannel } from './channel.ts';
import { hostOf } from './host.ts';
import {
  type Admitted,
  type Applicant,
  type PendingJoin,
  PendingJoins,
  type PendingLimits,
} from './pending-joins.ts';
import type { Registry } from './registry.ts';

export interface JoinServerOptions {
  registry: Registry;
  mesh: string;
  /** The mesh's name, for those who look for a founder. */
  name: string;
  /**
   * Admits who showed a secret; `secretHash` is what the log knows it by. Rejects with the code that says why
   * (`SF_INVITE`, `SF_EXISTS`, `SF_REVOKED`, `SF_FULL`).
   */
  admitByInvite(applicant: Applicant, secretHash: string): Promise<Admitted>;
  /** What a peer that is a member already gets again (its first answer was lost); null: it is none. */
  readmit(peer: string): Promise<Admitted | null>;
  pendingAdded?(pending: PendingJoin): void;
  pendingGone?(pending: PendingJoin, why: 'approved' | 'rejected' | 'expired' | 'left'): void;
  limits?: Partial<PendingLimits & { firstMs: number }>;
}

/** The founder's side of joining, as its driver and its operator use it. */
export interface JoinServer {
  /** Requests that wait for a person. */
  pending(): PendingJoin[];
  /**
   * Admits the request with this code through `admit`, and hands its answer to the joiner. One request is admitted
   * once; if `admit` rejects it waits on, and the error is the caller's. `SF_NOT_FOUND` where no request has the code.
   */
  approve(code: string, admit: (applicant: Applicant) => Promise<Admitted>): Promise<PendingJoin>;
  /** Refuses the request with this code; the joiner is told that a person said no. */
  reject(code: string): PendingJoin;
}

export async function serveJoins(options: JoinServerOptions): Promise<JoinServer> {
  const pending = new PendingJoins(options.limits ?? {}, {
    added: (join) => options.pendingAdded?.(join),
    gone: (join, why) => options.pendingGone?.(join, why),
  });
  await options.registry.handleProtocol({
    protocol: JOIN_PROTOCOL,
    access: 'strangers',
    maxInboundStreams: 2,
    handler: (stream, connection) => new JoinAttempt(stream, connection, options, pending).serve(),
  });
  return {
    pending: () => pending.list(),
    approve: (code, admit) => pending.approve(code, admit),
    reject: (code) => pending.reject(code),
  };
}

/** One stream of one stranger: one attempt. */
class JoinAttempt {
  readonly #channel: FrameChannel;
  readonly #connection: Connection;
  readonly #options: JoinServerOptions;
  readonly #pending: PendingJoins;
  readonly #peer: string;

  constructor(stream: Stream, connection: Connection, options: JoinServerOptions, pending: PendingJoins) {
    this.#channel = new FrameChannel(stream, { frameBytesMax: joinRequestBytesMax });
    this.#connection = connection;
    this.#options = options;
    this.#pending = pending;
    this.#peer = connection.remotePeer.toString();
  }

  async serve(): Promise<void> {
    try {
      await this.#answer(await this.#attempt(await this.#next()));
    } catch (thrown) {
      const error = asSuperfleetError(thrown);
      if (error.code === 'SF_UNREACHABLE' || error.code === 'SF_FRAME' || error.code === 'SF_TIMEOUT')
        throw error;
      await this.#answer(refusal(error));
    }
  }

  async #attempt(message: JoinerMessage): Promise<JoinAnswer> {
    const { mesh, name } = this.#options;
    if (message.type === 'describe') return { type: 'founder', mesh, name };
    if (message.type === 'reveal')
      throw new SuperfleetError('SF_FRAME', 'a nonce was revealed that nobody asked for');
    if (message.mesh !== mesh) {
      throw new SuperfleetError('SF_INVITE', 'this founder is of another mesh', {
        expected: mesh,
        got: message.mesh,
        hint: 'ask for an invite of this mesh',
      });
    }
    if (this.#options.registry.access.isRevoked?.(this.#peer) === true) {
      throw new SuperfleetError('SF_REVOKED', 'this machine was removed from the mesh for good', {
        hint: 'join with a new identity: an empty data folder',
      });
    }
    const again = await this.#options.readmit(this.#peer);
    if (again !== null) return admitted(again);
    const { name: wanted, owner, exact = false } = message;
    const applicant = { peer: this.#peer, name: wanted, owner, exact };
    if (message.type === 'invite') {
      return admitted(await this.#options.admitByInvite(applicant, secretHash(message.secret)));
    }
    return this.#byApproval(applicant, message.commitment);
  }

  async #byApproval(applicant: Applicant, commitment: string): Promise<JoinAnswer> {
    const address = hostOf(this.#connection.remoteAddr);
    // Asked before the nonces, so that a full house costs the stranger no secret, and again with the code.
    this.#pending.begin(address);
    const founderNonce = newNonce(randomBytes);
    await this.#answer({ type: 'nonce', nonce: founderNonce });
    const reveal = await this.#next();
    if (reveal.type !== 'reveal' || !opensCommitment(commitment, reveal.nonce)) {
      throw new SuperfleetError('SF_NOT_PROVED', 'the nonce revealed is not the one committed to', {
        hint: 'begin anew: mesh-node join',
      });
    }
    const code = shortCode({
      mesh: this.#options.mesh,
      joiner: this.#peer,
      founder: this.#options.registry.host.peer,
      joinerNonce: reveal.nonce,
      founderNonce,
    });
    const decision = this.#pending.add(applicant, code, address);
    this.#options.registry.extend(this.#connection, this.#pending.pendingMs + strangerMs);
    // The joiner says nothing more: whatever ends the stream ends the request.
    this.#channel.read().then(
      () => this.#pending.left(code),
      () => this.#pending.left(code),
    );
    await this.#answer({ type: 'pending', ms: this.#pending.pendingMs });
    return admitted(await decision);
  }

  async #next(): Promise<JoinerMessage> {
    const ms = this.#options.limits?.firstMs ?? strangerMs;
    const frame = await this.#channel.expect(AbortSignal.timeout(ms));
    const message = parseFrame(frame, joinerSchema, 1).messages[0];
    if (message === undefined)
      throw new SuperfleetError('SF_FRAME', 'expected a message of the join protocol');
    return message;
  }

  #answer(answer: JoinAnswer): Promise<void> {
    return this.#channel.write(frameOf(answer), AbortSignal.timeout(strangerMs));
  }
}

const admitted = ({ genesis, handovers, certificate, roster, policy = null }: Admitted): JoinAnswer => ({
  type: 'admitted',
  ...(handovers === undefined || handovers.length === 0 ? {} : { handovers }),
  genesis,
  certificate,
  roster: roster !== null && Buffer.byteLength(roster) <= joinRosterBytesMax ? roster : null,
  ...(policy === null ? {} : { policy }),
});

function refusal(error: SuperfleetError): JoinAnswer {
  // What went wrong inside is for our own log, not for a stranger.
  const inside = error.code === 'SF_INTERNAL';
  return {
    type: 'refused',
    code: error.code,
    message: inside ? 'the founder could not answer' : error.message.slice(0, 1024),
    hint: inside ? null : (error.hint?.slice(0, 1024) ?? null),
  };
}
