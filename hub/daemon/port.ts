import { randomBytes } from 'node:crypto';
import type { IndexStore } from '../../ledger/index/index-store.ts';
import type { Entry } from '../../ledger/lines/entry.ts';
import type { Actor } from '../../ledger/lines/events.ts';
import type { TaskArchive } from '../../ledger/log/archive.ts';
import type { Log } from '../../ledger/log/log.ts';
import type { LogProofs } from '../../ledger/proofs/proofs.ts';
import type { MeshState } from '../../ledger/state/state.ts';
import type { TaskRecord } from '../../ledger/state/task-record.ts';
import { hasArchived } from '../../ledger/state/task-set.ts';
import type { InviteObject, NodeObject, TaskDetail } from '../../node/api/objects.ts';
import type { BlobStore } from '../../node/blobs/types.ts';
import type { Host } from '../../node/network/host.ts';
import type { JoinServer } from '../../node/network/join-server.ts';
import type { TailSources } from '../../node/network/tail-source.ts';
import { encodeReceiptFile } from '../../protocol/bundle.ts';
import { collectBytes } from '../../protocol/bytes.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { Role } from '../../protocol/ids.ts';
import { encodeInvite, newInviteSecret, secretHash } from '../../protocol/invite.ts';
import { envelopeBytesMax } from '../../protocol/limits.ts';
import { parseSigned } from '../../protocol/statement.ts';
import { TERMINAL_STATES } from '../../protocol/task.ts';
import type {
  ApproveOptions,
  HandoverReport,
  HandoverStep,
  HubPort,
  InviteOptions,
  LedgerProgress,
  LedgerReport,
  Right,
} from '../api/port.ts';
import { ownsResult } from '../core/results/blob-access.ts';
import { allowed, needRight } from '../core/rights.ts';
import type { Operation } from '../core/types.ts';
import type { FounderDriver } from './founder.ts';
import type { Handover } from './handover.ts';
import { taskLog } from './logs.ts';
import { proofFile } from './prove.ts';
import type { Notary } from './roster.ts';
import type { SecretStore } from './secrets.ts';
import { TaskWatch } from './watch.ts';

export interface PortParts {
  driver: FounderDriver;
  state(): MeshState;
  log: Log;
  /** Verifies the whole log anew from its files. */
  verifyLog(progress: (at: LedgerProgress) => void, signal: AbortSignal): Promise<LedgerReport>;
  scrubLog(progress: (at: LedgerProgress) => void, signal: AbortSignal): Promise<LedgerReport>;
  index: IndexStore;
  /** Tasks that have left the state. */
  archive: TaskArchive;
  proofs: LogProofs;
  /** A checkpoint with the cosignatures of the replicas that have this one. */
  cosigned(text: string): string;
  blobs: BlobStore;
  host: Host;
  join: JoinServer;
  notary: Notary;
  genesisLine: string;
  secrets: SecretStore;
  own: TailSources;
  handover: Pick<Handover, 'run'>;
  stop(): void;
}

/** `/v1`'s view of the founder's process: every act goes through the core, every read rests on what is durable. */
export class FounderPort implements HubPort {
  readonly #parts: PortParts;
  readonly #watch: TaskWatch;

  constructor(parts: PortParts) {
    this.#parts = parts;
    this.#watch = new TaskWatch(parts.log);
  }

  get blobs(): BlobStore {
    return this.#parts.blobs;
  }

  request(operation: Operation, by: Actor, correlation: string | null): Promise<unknown> {
    const carried =
      (operation.op === 'task.submit' || operation.op === 'task.submitMany') && operation.correlation === null
        ? { ...operation, correlation }
        : operation;
    return this.#parts.driver.request(carried, by);
  }

  allowed(by: Actor, right: Right): boolean {
    return allowed(this.#parts.state().members, by, right);
  }

  need(by: Actor, right: Right): void {
    needRight(this.#parts.state().members, by, right);
  }

  ownsResult(peer: string, blob: string): boolean {
    const { state, archive } = this.#parts;
    return ownsResult(state(), peer, blob, archive.recent);
  }

  async invite(options: InviteOptions, by: Actor): Promise<InviteObject> {
    const { host, state, log } = this.#parts;
    const { lifetimeMs, policy, replace, ...asked } = options;
    const addresses = host.addresses().map((address) => address.replace(/\/p2p\/[^/]+$/, ''));
    // Other machines cannot dial this one's loopback: it is named last, and only where there is nothing else first.
    addresses.sort((a, b) => Number(isLoopback(a)) - Number(isLoopback(b)));
    const secret = newInviteSecret((length) => randomBytes(length));
    const expiresAt = Date.now() + lifetimeMs;
    const made = (await this.#parts.driver.request(
      {
        op: 'invite.create',
        invite: {
          invite: secretHash(secret),
          expiresAt,
          ...asked,
          ...(policy === null ? {} : { policy }),
          by,
        },
        ...(replace === null ? {} : { replace }),
      },
      by,
    )) as Omit<InviteObject, 'token'> & { roles: Role[] };
    const { uses, roles, labels } = made;
    const founder = state().mesh.founder ?? host.peer;
    const token = encodeInvite({ mesh: log.meshId, founder, addresses, secret, expiresAt, roles });
    return { token, expiresAt, uses, roles, labels, policy: made.policy };
  }

  async pendingJoins(): Promise<NodeObject[]> {
    return this.#parts.join.pending().map(({ peer, name, owner, code }) => ({
      id: peer,
      name,
      owner,
      roles: [],
      state: 'pending' as const,
      code,
      slots: { used: 0, total: 0 },
      models: [],
      tools: {},
      labels: {},
      limits: null,
      policy: null,
      work: null,
      lag: null,
    }));
  }

  async approve(options: ApproveOptions, by: Actor): Promise<NodeObject> {
    const { driver, join, notary } = this.#parts;
    const { peer } = await join.approve(options.code, async (applicant) => {
      const via = { kind: 'approval' as const, code: options.code, roles: options.roles };
      const name = options.name ?? applicant.name;
      const exact = options.name !== null || applicant.exact;
      const owner = options.owner ?? applicant.owner;
      await driver.request({ op: 'member.admit', peer: applicant.peer, name, exact, owner, via }, by);
      return notary.admitted(applicant.peer);
    });
    return (await driver.request({ op: 'node.get', member: peer }, by)) as NodeObject;
  }

  async reject(code: string, by: Actor): Promise<void> {
    const { peer, name } = this.#parts.join.reject(code);
    await this.#parts.driver.request({ op: 'member.reject', peer, name }, by);
  }

  async secretSet(name: string, value: Uint8Array, by: Actor): Promise<void> {
    await this.#parts.secrets.set(name, value);
    try {
      await this.#parts.driver.request({ op: 'secret.set', name }, by);
    } catch (error) {
      await this.#parts.secrets.retain(this.#parts.state().secrets);
      throw error;
    }
    this.#parts.driver.step({ type: 'secrets', values: this.#parts.secrets.values });
  }

  async secretRemove(name: string, by: Actor): Promise<void> {
    await this.#parts.driver.request({ op: 'secret.remove', name }, by);
    await this.#parts.secrets.remove(name);
    this.#parts.driver.step({ type: 'secrets', values: this.#parts.secrets.values });
  }

  logs(task: string, options: { follow: boolean; signal: AbortSignal }): AsyncIterable<Uint8Array> {
    const { blobs, host, own } = this.#parts;
    const find = (id: string): Promise<TaskRecord> => this.#task(id);
    return taskLog({ task: find, blobs, host, own, watch: this.#watch }, task, options);
  }

  async receiptFile(id: string): Promise<Uint8Array> {
    const { notary, genesisLine, state } = this.#parts;
    const task = await this.#task(id);
    const executed = task.accepted ?? task.lastEnd;
    if (executed === null || executed.envelope === null) {
      throw new SuperfleetError('SF_CONFLICT', `task ${id} has no receipt`, {
        expected: 'a task that a member has executed',
        got: task.state,
        hint: 'a receipt is there once the task was executed: mesh-hub task describe ID',
      });
    }
    const verification = task.accepted === null ? null : task.verification;
    const peers = new Set([executed.member, ...(verification === null ? [] : [verification.member])]);
    return encodeReceiptFile({
      format: 'superfleet-receipt/1',
      receipt: parseSigned(await this.#small(executed.envelope)),
      verification: verification === null ? null : parseSigned(await this.#small(verification.envelope)),
      genesis: genesisLine,
      handovers: state().mesh.handovers,
      certificates: [...peers].map((peer) => notary.certificate(peer)),
    });
  }

  async history(task: string): Promise<Entry[]> {
    await this.#task(task);
    return this.#parts.archive.history(task);
  }

  get ledger(): HubPort['ledger'] {
    const { log, verifyLog, scrubLog } = this.#parts;
    return {
      verify: verifyLog,
      scrub: scrubLog,
      tail: (from, { follow, signal }) => (follow ? log.tail(from, signal) : log.entries(from)),
      export: (signal) => log.export(signal),
      prove: (of) => proofFile({ ...this.#parts, receiptFile: (task) => this.receiptFile(task) }, of),
    };
  }

  async *watch(id: string, signal: AbortSignal): AsyncGenerator<TaskDetail> {
    for await (const _ of this.#watch.changes(id, signal)) {
      const operation: Operation = { op: 'task.get', task: id };
      // Whoever waits for the end of a task goes by what it is told here.
      const told = this.#parts.driver.request(operation, { kind: 'founder' }, { certain: true });
      const task = (await told) as TaskDetail;
      yield task;
      if (TERMINAL_STATES.has(task.state)) return;
    }
  }

  handOver(
    node: string,
    progress: (step: HandoverStep) => void,
    signal: AbortSignal,
  ): Promise<HandoverReport> {
    return this.#parts.handover.run(node, progress, signal);
  }

  stop(): void {
    this.#parts.stop();
  }

  /** From the state, or from the log where it has left that. */
  async #task(id: string): Promise<TaskRecord> {
    const { state, archive } = this.#parts;
    const task = state().tasks.byId.get(id) ?? (hasArchived(state().tasks) ? await archive.find(id) : null);
    if (task !== null) return task;
    throw new SuperfleetError('SF_NOT_FOUND', `there is no task ${id}`, { hint: 'mesh-hub task list' });
  }

  async #small(blob: string): Promise<Uint8Array> {
    const tooLarge = () => new SuperfleetError('SF_NOT_PROVED', 'a receipt of this size is none');
    return collectBytes(this.#parts.blobs.read(blob), envelopeBytesMax, tooLarge);
  }
}

const isLoopback = (address: string): boolean => /^\/ip4\/127\.|^\/ip6\/::1\//.test(address);
