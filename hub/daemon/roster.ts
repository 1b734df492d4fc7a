import type { MeshState } from '../../ledger/state/state.ts';
import type { BlobStore } from '../../node/blobs/types.ts';
import type { Admitted } from '../../node/network/pending-joins.ts';
import { type Certificate, issueCertificate } from '../../protocol/certificate.ts';
import { type Envelope, encodeEnvelope } from '../../protocol/dsse.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { meshIdOfLine } from '../../protocol/genesis.ts';
import type { SigningKey } from '../../protocol/keys.ts';
import { type Roster, signRoster } from '../../protocol/roster.ts';

/**
 * A roster of more members is not handed to one that joins: it would have its answer later for it, and fetches the next
 * roster, which has it too.
 */
const JOIN_ROSTER_MEMBERS_MAX = 64;

/** What the founder says of its members, signed: made of the replayed state, so the same state gives the same bytes. */
export class Notary {
  readonly #mesh: string;
  readonly #state: () => MeshState;
  readonly #key: SigningKey;
  readonly #genesisLine: string;
  #published: { version: number; blob: string } | null = null;

  constructor(genesisLine: string, state: () => MeshState, key: SigningKey) {
    this.#genesisLine = genesisLine;
    this.#mesh = meshIdOfLine(genesisLine);
    this.#state = state;
    this.#key = key;
  }

  /** The certificate of a member as it was admitted last; `SF_NOT_FOUND` for one that never was. */
  certificate(peer: string): Envelope {
    const member = this.#state().members.byPeer.get(peer);
    if (member?.admittedIndex == null || member.admittedEpoch === null || member.admittedAt === null) {
      throw new SuperfleetError('SF_NOT_FOUND', `${peer} was never a member`);
    }
    const certificate: Certificate = {
      mesh: this.#mesh,
      peer,
      name: member.admittedAs,
      owner: member.owner,
      roles: member.roles,
      labels: member.labels,
      epoch: member.admittedEpoch,
      index: member.admittedIndex,
      issuedAt: member.admittedAt,
    };
    return issueCertificate(certificate, this.#key);
  }

  /** The roster as the state is now; its version is the size of the log it was made of. */
  roster(): { version: number; bytes: Uint8Array } {
    const { members, mesh } = this.#state();
    const roster: Roster = {
      mesh: this.#mesh,
      epoch: mesh.epoch,
      version: mesh.size,
      members: [],
      revoked: [],
    };
    for (const { peer, name, owner, roles, standing } of members.byPeer.values()) {
      if (standing === 'active') roster.members.push({ peer, name, owner, roles });
      if (standing === 'revoked') roster.revoked.push(peer);
    }
    return { version: roster.version, bytes: Buffer.from(encodeEnvelope(signRoster(roster, this.#key))) };
  }

  /** What a new member is handed, and gets again when it asks: its proofs, as they stand in the state now. */
  admitted(peer: string): Admitted {
    const few = this.#state().members.byName.size <= JOIN_ROSTER_MEMBERS_MAX;
    return {
      genesis: this.#genesisLine,
      handovers: this.#state().mesh.handovers,
      certificate: encodeEnvelope(this.certificate(peer)),
      roster: few ? Buffer.from(this.roster().bytes).toString() : null,
      policy: this.#state().members.byPeer.get(peer)?.policy ?? null,
    };
  }

  /** Signs the roster and keeps it as a blob that members fetch, in place of the one before. */
  async publish(store: BlobStore): Promise<{ version: number; blob: string }> {
    const { version, bytes } = this.roster();
    const { blob } = await store.put(bytes);
    // Two may be on their way at once; whoever is just fetching the older is told of the newer.
    const newest =
      this.#published !== null && this.#published.version > version ? this.#published : { version, blob };
    const older = newest.blob === blob ? this.#published : { version, blob };
    this.#published = newest;
    if (older !== null && older.blob !== newest.blob) await store.delete(older.blob);
    return { version, blob };
  }
}
