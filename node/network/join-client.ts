import { randomBytes } from 'node:crypto';
import type { Connection } from '@libp2p/interface';
import { type Certificate, openCertificate } from '../../protocol/certificate.ts';
import { type Envelope, parseEnvelope } from '../../protocol/dsse.ts';
import { isErrorCode, SuperfleetError } from '../../protocol/errors.ts';
import { frameOf, parseFrame } from '../../protocol/frame.ts';
import { leadershipOf } from '../../protocol/handover.ts';
import { newNonce } from '../../protocol/ids.ts';
import type { Invite } from '../../protocol/invite.ts';
import { JOIN_PROTOCOL, type JoinAnswer, type JoinerMessage, joinAnswerSchema } from '../../protocol/join.ts';
import { openRosterOf } from '../../protocol/roster.ts';
import { commitNonce, shortCode } from '../../protocol/short-code.ts';
import { FrameChannel } from './channel.ts';
import type { Host } from './host.ts';

/** How this machine wants to be known. */
export interface Me {
  name: string;
  /** A person chose the name: where it is taken, joining is refused with `SF_EXISTS`. @default false */
  exact?: boolean;
  /** Null: the invite or the operator says whose it is. */
  owner: string | null;
}

/** What a machine got by joining; every signature in it was checked against the mesh id. */
export interface Joined {
  mesh: string;
  meshName: string;
  founder: string;
  /** Addresses the founder was reached by, or named. */
  addresses: string[];
  genesis: string;
  /** Lines by which the mesh changed hands since. */
  handovers: string[];
  certificate: Envelope;
  facts: Certificate;
  /** The signed roster as text; null where it is too large and comes as a blob. */
  roster: string | null;
  /** When this machine works, by the invite; null: it said nothing. */
  policy: string | null;
}

/** A founder that was asked and answered. */
export interface FoundFounder {
  peer: string;
  addresses: string[];
  mesh: string;
  /** The mesh's name. */
  name: string;
}

/** A stream is opened, and an answer of a machine (not of a person) comes, within this. */
const ANSWER_MS = 10_000;

/** Asks a peer whether it is a founder. Null: it is reached, and is none. */
export async function describe(
  connection: Connection,
  signal: AbortSignal,
): Promise<{ mesh: string; name: string } | null> {
  const stream = await connection
    .newStream(JOIN_PROTOCOL, { signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]) })
    .catch((cause: unknown) => {
      if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') return null;
      throw cause;
    });
  if (stream === null) return null;
  const conversation = new Conversation(new FrameChannel(stream), signal);
  return conversation.over(async () => {
    const answer = await conversation.ask({ type: 'describe' });
    return answer.type === 'founder' ? { mesh: answer.mesh, name: answer.name } : null;
  });
}

/**
 * Joins with an invite. The secret is sent only to the peer the invite names, which the connection proved, and what
 * comes back is checked against the mesh id. Rejects with the founder's code: `SF_INVITE`, `SF_EXISTS`, …
 */
export async function joinByInvite(host: Host, invite: Invite, me: Me, signal: AbortSignal): Promise<Joined> {
  const { mesh, founder, addresses, secret } = invite;
  const connection = await host.dial(founder, addresses, signal);
  const conversation = await Conversation.open(connection, signal);
  return conversation.over(async () => {
    const answer = await conversation.ask({ type: 'invite', mesh, ...me, secret });
    return proved(answer, host, { mesh, peer: founder, addresses });
  });
}

/**
 * Joins a founder that was found, by approval. `onCode` gets the code as soon as the founder shows the same; then a
 * person has its time. Rejects with `SF_REJECTED`, `SF_EXPIRED`, `SF_FULL`.
 */
export async function joinByApproval(
  host: Host,
  founder: FoundFounder,
  me: Me,
  onCode: (code: string, waitMs: number) => void,
  signal: AbortSignal,
): Promise<Joined> {
  const { mesh, peer, addresses } = founder;
  const connection = await host.dial(peer, addresses, signal);
  const conversation = await Conversation.open(connection, signal);
  return conversation.over(async () => {
    const joinerNonce = newNonce(randomBytes);
    const first = await conversation.ask({
      type: 'request',
      mesh,
      ...me,
      commitment: commitNonce(joinerNonce),
    });
    if (first.type !== 'nonce') return proved(first, host, founder);
    const second = await conversation.ask({ type: 'reveal', nonce: joinerNonce });
    if (second.type !== 'pending') return proved(second, host, founder);
    onCode(
      shortCode({ mesh, joiner: host.peer, founder: peer, joinerNonce, founderNonce: first.nonce }),
      second.ms,
    );
    return proved(await conversation.answer(second.ms + ANSWER_MS), host, founder);
  });
}

/** One stream of the join protocol, from our side. */
class Conversation {
  readonly #channel: FrameChannel;
  readonly #signal: AbortSignal;

  constructor(channel: FrameChannel, signal: AbortSignal) {
    this.#channel = channel;
    this.#signal = signal;
  }

  static async open(connection: Connection, signal: AbortSignal): Promise<Conversation> {
    try {
      const stream = await connection.newStream(JOIN_PROTOCOL, {
        signal: AbortSignal.any([signal, AbortSignal.timeout(ANSWER_MS)]),
      });
      return new Conversation(new FrameChannel(stream), signal);
    } catch (cause) {
      signal.throwIfAborted();
      if (cause instanceof Error && cause.name === 'UnsupportedProtocolError') {
        throw new SuperfleetError('SF_VERSION', 'this machine lets nobody join in a way we know', {
          expected: JOIN_PROTOCOL,
          got: 'protocol not supported',
          hint: 'is it the founder, and of the same release?',
          cause,
        });
      }
      throw new SuperfleetError('SF_UNREACHABLE', 'the founder opened no stream', {
        expected: JOIN_PROTOCOL,
        cause,
      });
    }
  }

  async ask(message: JoinerMessage): Promise<JoinAnswer> {
    await this.#channel.write(frameOf(message), this.#within(ANSWER_MS));
    return this.answer(ANSWER_MS);
  }

  async answer(ms: number): Promise<JoinAnswer> {
    let frame: Uint8Array;
    try {
      frame = await this.#channel.expect(this.#within(ms));
    } catch (thrown) {
      this.#signal.throwIfAborted();
      if (!(thrown instanceof Error) || thrown.name !== 'TimeoutError') throw thrown;
      throw new SuperfleetError('SF_TIMEOUT', 'the founder did not answer', {
        expected: `an answer within ${ms} ms`,
      });
    }
    const answer = parseFrame(frame, joinAnswerSchema, 1).messages[0];
    if (answer === undefined)
      throw new SuperfleetError('SF_FRAME', 'the founder gave an answer we do not know');
    return answer;
  }

  /** Runs a conversation and closes the stream after it, whatever came of it. */
  async over<T>(work: () => Promise<T>): Promise<T> {
    try {
      const result = await work();
      await this.#channel.close();
      return result;
    } catch (thrown) {
      this.#channel.abort(thrown instanceof Error ? thrown : new Error(String(thrown)));
      throw thrown;
    }
  }

  #within(ms: number): AbortSignal {
    return AbortSignal.any([this.#signal, AbortSignal.timeout(ms)]);
  }
}

/** The admission, once everything in it holds together; throws the refusal it is instead, or `SF_NOT_PROVED`. */
function proved(
  answer: JoinAnswer,
  host: Host,
  of: { mesh: string; peer: string; addresses: string[] },
): Joined {
  if (answer.type === 'refused') {
    const code = isErrorCode(answer.code) ? answer.code : 'SF_REFUSED';
    throw new SuperfleetError(code, answer.message, { hint: answer.hint });
  }
  if (answer.type !== 'admitted') {
    throw new SuperfleetError('SF_FRAME', 'the founder gave an answer out of turn', {
      expected: 'admitted or refused',
      got: answer.type,
    });
  }
  const leadership = leadershipOf(answer.genesis, answer.handovers ?? []);
  const { genesis } = leadership;
  if (genesis.mesh !== of.mesh) {
    throw new SuperfleetError('SF_NOT_PROVED', 'the founder showed the genesis of another mesh', {
      expected: of.mesh,
      got: genesis.mesh,
    });
  }
  if (leadership.founder !== of.peer) {
    throw new SuperfleetError('SF_FENCED', 'the machine that answered leads this mesh no more', {
      expected: leadership.founder,
      got: of.peer,
      hint: 'ask the operator for an invite of the founder of now',
    });
  }
  const certificate = parseEnvelope(answer.certificate);
  const facts = openCertificate(certificate, leadership.logKey, genesis.mesh);
  if (facts.peer !== host.peer) {
    throw new SuperfleetError('SF_NOT_PROVED', 'the certificate is of another machine', {
      expected: host.peer,
      got: facts.peer,
    });
  }
  if (answer.roster !== null) openRosterOf(leadership, answer.roster);
  return {
    mesh: genesis.mesh,
    meshName: genesis.name,
    founder: of.peer,
    addresses: of.addresses,
    genesis: answer.genesis,
    handovers: answer.handovers ?? [],
    certificate,
    facts,
    roster: answer.roster,
    policy: answer.policy ?? null,
  };
}
