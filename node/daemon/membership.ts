import { readFileSync } from 'node:fs';
import { rm } from 'node:fs/promises';
import { z } from 'zod';
import { type Certificate, openCertificateOf } from '../../protocol/certificate.ts';
import { type Envelope, encodeEnvelope, parseEnvelope } from '../../protocol/dsse.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Genesis } from '../../protocol/genesis.ts';
import { type Leadership, leadershipOf, newerLeadership } from '../../protocol/handover.ts';
import { meshId, peerId } from '../../protocol/ids.ts';
import { entryLineBytesMax } from '../../protocol/limits.ts';
import { policyText } from '../../protocol/policy-schema.ts';
import { newerRoster, openRosterOf, type Roster, rosterMember } from '../../protocol/roster.ts';
import type { Place } from '../../protocol/session.ts';
import { readTextOrNull, writeFileAtomic } from '../atomic-file.ts';
import { type FolderPaths, folderPaths } from '../folder.ts';
import type { Access } from '../network/registry.ts';

/** Addresses of the founder that are kept. */
const ADDRESSES_MAX = 16;
/** As many as a receipt file may carry. */
const HANDOVERS_MAX = 64;
/** Replicas whose addresses are kept. */
const REPLICAS_MAX = 16;

const file = z.strictObject({
  format: z.literal(1),
  mesh: meshId,
  genesis: z.string().max(entryLineBytesMax),
  /** Lines by which the mesh changed hands since. */
  handovers: z.array(z.string().max(entryLineBytesMax)).max(HANDOVERS_MAX).default([]),
  certificate: z.string().max(32 * 1024),
  /** Multiaddrs of the founder, as the invite named them or discovery found them. */
  addresses: z.array(z.string().max(256)).max(ADDRESSES_MAX),
  /** When this machine works, by its invite; the owner's own is in the config. @default null */
  policy: policyText.nullable().default(null),
  /** Where replicas listen, as the founder said last: one of them may lead the mesh when the founder is lost. */
  replicas: z
    .array(z.strictObject({ peer: peerId, addresses: z.array(z.string().max(256)).max(ADDRESSES_MAX) }))
    .max(REPLICAS_MAX)
    .default([]),
});

/** What a machine was given when it was let in. */
export interface Admission {
  genesis: string;
  /** @default none: the founder is the genesis's */
  handovers?: readonly string[];
  certificate: Envelope;
  addresses: string[];
  /** The invite's policy. @default null: it named none */
  policy?: string | null;
  /** @default none is known */
  replicas?: readonly Place[];
}

/** Where small files of a member are read and written, whole. */
export interface SmallFiles {
  membership: string;
  roster: string;
  write(path: string, text: string): Promise<void>;
  remove(path: string): Promise<void>;
}

export const smallFiles = ({
  membership,
  roster,
}: Pick<FolderPaths, 'membership' | 'roster'>): SmallFiles => ({
  membership,
  roster,
  write: (path, text) => writeFileAtomic(path, text),
  remove: (path) => rm(path, { force: true }),
});

/**
 * This machine's membership of its mesh, proved anew whenever it is read: the genesis line hashes to the mesh id and
 * names the key that signed the certificate and every roster. Access between machines rests on it.
 */
export class Membership implements Access {
  readonly genesisLine: string;
  readonly certificate: Certificate;
  readonly certificateEnvelope: Envelope;
  /** When this machine works, by its invite; null: it said nothing. */
  readonly policy: string | null;
  #leadership: Leadership;
  #addresses: readonly string[];
  #replicas: readonly Place[];
  #saving: Promise<void> = Promise.resolve();
  readonly #files: SmallFiles;
  #roster: Roster | null;

  private constructor(admission: Admission, peer: string, roster: Roster | null, files: SmallFiles) {
    this.genesisLine = admission.genesis;
    this.#leadership = leadershipOf(admission.genesis, admission.handovers);
    this.certificateEnvelope = admission.certificate;
    this.certificate = openCertificateOf(this.#leadership, admission.certificate);
    if (this.certificate.peer !== peer) {
      throw new SuperfleetError('SF_NOT_PROVED', 'the membership is of another identity', {
        expected: peer,
        got: this.certificate.peer,
        hint: 'was identity.key copied from another machine? join again with a folder of its own',
      });
    }
    this.policy = admission.policy ?? null;
    this.#addresses = admission.addresses.slice(0, ADDRESSES_MAX);
    this.#replicas = admission.replicas ?? [];
    this.#roster = roster;
    this.#files = files;
  }

  /** Checks an admission and keeps it. `SF_NOT_PROVED` where it does not hold together. */
  static async admit(admission: Admission, peer: string, files: SmallFiles): Promise<Membership> {
    const membership = new Membership(admission, peer, null, files);
    await membership.#save();
    return membership;
  }

  /** The membership of this folder; null where it never joined. */
  static async load(peer: string, files: SmallFiles): Promise<Membership | null> {
    const text = await readTextOrNull(files.membership);
    if (text === null) return null;
    const parsed = file.safeParse(jsonOf(text));
    if (!parsed.success) {
      throw new SuperfleetError('SF_FOLDER', `the membership cannot be read: ${files.membership}`, {
        expected: 'the file as it was written at joining',
        got: parsed.error.issues[0]?.message ?? 'something else',
        hint: 'join again with an empty data folder',
      });
    }
    const { genesis, handovers, certificate, addresses, policy, replicas } = parsed.data;
    const envelope = parseEnvelope(certificate);
    const admission = { genesis, handovers, certificate: envelope, addresses, policy, replicas };
    const rosterText = await readTextOrNull(files.roster);
    return new Membership(
      admission,
      peer,
      // A damaged one is as good as none: nobody but the founder has access until it is fetched again.
      rosterText === null ? null : soundRoster(rosterText, leadershipOf(genesis, handovers)),
      files,
    );
  }

  get genesis(): Genesis {
    return this.#leadership.genesis;
  }

  /** Who leads the mesh, as far as this machine was shown. */
  get leadership(): Leadership {
    return this.#leadership;
  }

  /** Peer id of the founder now. */
  get founder(): string {
    return this.#leadership.founder;
  }

  /**
   * Takes the lines of all handovers of the mesh: true where they are news, and the founder another one from here on,
   * tried at the addresses known of it. Throws `SF_NOT_PROVED` for a forgery, `SF_EQUIVOCATION` where one epoch was opened twice.
   */
  async takeHandovers(
    lines: readonly string[],
    known: { addresses(peer: string): readonly string[] },
  ): Promise<boolean> {
    const newer = newerLeadership(this.#leadership, leadershipOf(this.genesisLine, lines));
    if (newer === this.#leadership) return false;
    const found = known.addresses(newer.founder).slice(0, ADDRESSES_MAX);
    // The same founder in a new epoch is where it was.
    if (newer.founder !== this.founder || found.length > 0) this.#addresses = found;
    this.#leadership = newer;
    await this.#save();
    return true;
  }

  /** Where the founder may be, best first. */
  get addresses(): readonly string[] {
    return this.#addresses;
  }

  /** The founder answered at this address: it is tried first from now on, after a restart too. */
  async reachedAt(address: string): Promise<void> {
    if (this.#addresses[0] === address) return;
    const others = this.#addresses.filter((known) => known !== address);
    this.#addresses = [address, ...others].slice(0, ADDRESSES_MAX);
    await this.#save();
  }

  /** Where replicas listened when the founder was last heard. */
  get replicaPlaces(): readonly Place[] {
    return this.#replicas;
  }

  async keepReplicas(places: readonly Place[]): Promise<void> {
    const kept = places
      .slice(0, REPLICAS_MAX)
      .map(({ peer, addresses }) => ({ peer, addresses: addresses.slice(0, ADDRESSES_MAX) }));
    if (JSON.stringify(kept) === JSON.stringify(this.#replicas)) return;
    this.#replicas = kept;
    await this.#save();
  }

  /** One write after the other, each of what is true when its turn comes. */
  #save(): Promise<void> {
    this.#saving = this.#saving.catch(() => {}).then(() => this.#write());
    return this.#saving;
  }

  #write(): Promise<void> {
    const text = JSON.stringify({
      format: 1,
      mesh: this.genesis.mesh,
      genesis: this.genesisLine,
      handovers: this.#leadership.handovers.map(({ line }) => line),
      certificate: encodeEnvelope(this.certificateEnvelope),
      addresses: this.#addresses,
      policy: this.policy,
      replicas: this.#replicas,
    });
    return this.#files.write(this.#files.membership, text);
  }

  /** Ends it on this machine: a next start finds that it never joined. */
  async forget(): Promise<void> {
    await this.#files.remove(this.#files.membership);
    await this.#files.remove(this.#files.roster);
  }

  get rosterVersion(): number {
    return this.#roster?.version ?? 0;
  }

  /** Takes a roster's bytes; keeps them where they are newer. `SF_NOT_PROVED` for a forged one. */
  async takeRoster(bytes: Uint8Array): Promise<number> {
    const next = openRosterOf(this.#leadership, bytes);
    const newer = newerRoster(this.#roster, next);
    if (newer !== this.#roster) {
      this.#roster = newer;
      await this.#files.write(this.#files.roster, Buffer.from(bytes).toString());
    }
    return this.rosterVersion;
  }

  /** Peer ids of the mesh's replicas. */
  replicas(): string[] {
    const replicas = this.#roster?.members.filter(({ roles }) => roles.includes('replica')) ?? [];
    return replicas.map(({ peer }) => peer);
  }

  isFounder(peer: string): boolean {
    return peer === this.founder;
  }

  isMember(peer: string): boolean {
    return this.isFounder(peer) || (this.#roster !== null && rosterMember(this.#roster, peer) !== null);
  }

  isRevoked(peer: string): boolean {
    return this.#roster?.revoked.includes(peer) ?? false;
  }
}

/** The mesh a data folder says it is a member of, not proved; null where it says none to this user. */
export function enrolledMesh(dir: string): string | null {
  try {
    const { mesh } = JSON.parse(readFileSync(folderPaths(dir).membership, 'utf8')) as { mesh?: unknown };
    return meshId.safeParse(mesh).data ?? null;
  } catch {
    return null;
  }
}

/** `SF_EXISTS` where a folder is a member of one mesh and another is meant; null: none, or whichever. */
export function requireSameMesh(known: string | null, mesh: string | null): void {
  if (known === null || mesh === null || mesh === known) return;
  throw new SuperfleetError('SF_EXISTS', 'this data folder belongs to another mesh', {
    expected: known,
    got: mesh,
    hint: 'leave that mesh first (mesh-node leave), or join with another folder: --dir PATH',
  });
}

function jsonOf(text: string): unknown {
  try {
    return JSON.parse(text);
  } catch {
    return null;
  }
}

function soundRoster(text: string, leadership: Leadership): Roster | null {
  try {
    return openRosterOf(leadership, text);
  } catch {
    return null;
  }
}
