// limit: 90 s
import { randomBytes } from 'node:crypto';
import { join } from 'node:path';
import { privateKeyFromRaw } from '@libp2p/crypto/keys';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MemoryBlobStore } from '../../node/blobs/memory.ts';
import { fetchBlobs } from '../../node/network/blob-client.ts';
import { createHost, type Host } from '../../node/network/host.ts';
import { joinByInvite } from '../../node/network/join-client.ts';
import { openSession } from '../../node/network/member-session.ts';
import type { Session, SessionEnd } from '../../node/network/session.ts';
import { asSuperfleetError } from '../../protocol/errors.ts';
import { newTaskId } from '../../protocol/ids.ts';
import { type Invite, parseInvite } from '../../protocol/invite.ts';
import { newSigningKey } from '../../protocol/keys.ts';
import type { AttemptResult, FounderMessage, Lease, MemberMessage } from '../../protocol/session.ts';
import { HELLO } from '../hub/core/fleet.ts';
import { greeter, Mesh } from './mesh.ts';

/** A machine that was let in and speaks the protocols with a program of its own. */
class Liar {
  readonly heard: FounderMessage[] = [];
  readonly host: Host;
  readonly mesh: string;
  readonly #invite: Invite;
  session: Session<MemberMessage> | null = null;
  end: SessionEnd | null = null;
  #wake: (() => void)[] = [];

  private constructor(host: Host, invite: Invite) {
    this.host = host;
    this.mesh = invite.mesh;
    this.#invite = invite;
  }

  static async make(token: string, seed: Uint8Array): Promise<Liar> {
    const key = newSigningKey(() => seed);
    const privateKey = privateKeyFromRaw(Buffer.concat([key.seed, key.publicKey]));
    return new Liar(await createHost({ privateKey, listen: [], mdns: false }), parseInvite(token));
  }

  async join(name: string): Promise<void> {
    await joinByInvite(this.host, this.#invite, { name, owner: 'eve' }, AbortSignal.timeout(10_000));
  }

  async open(hello: Partial<typeof HELLO> = {}): Promise<FounderMessage> {
    const { founder, addresses } = this.#invite;
    const connection = await this.host.dial(founder, addresses);
    this.end = null;
    this.session = null;
    this.session = await openSession(connection, (opened) => ({
      onMessage: (message) => {
        this.heard.push(message);
        for (const wake of this.#wake.splice(0)) wake();
      },
      onClosed: (end) => {
        if (this.session !== null && this.session !== opened) return;
        this.end = end;
        for (const wake of this.#wake.splice(0)) wake();
      },
    }));
    this.session.send({ ...HELLO, mesh: this.mesh, ...hello });
    return this.until(({ type }) => type === 'welcome');
  }

  /** The first message from now on that is looked for; an error where the session ends before. */
  async until(look: (message: FounderMessage) => boolean): Promise<FounderMessage> {
    for (;;) {
      const at = this.heard.findIndex(look);
      if (at !== -1) return this.heard.splice(0, at + 1).at(-1)!;
      if (this.end !== null) throw new Error(`the session ended: ${this.end.code} ${this.end.message}`);
      await new Promise<void>((resolve) => this.#wake.push(resolve));
    }
  }

  async closed(): Promise<SessionEnd> {
    return this.session!.closed;
  }

  /** Waits until the founder, too, has closed the connection: a dial would be given the old one. */
  async hungUp(): Promise<void> {
    const { libp2p } = this.host;
    await new Promise<void>((resolve, reject) => {
      const signal = AbortSignal.timeout(10_000);
      const look = (): void => {
        if (libp2p.getConnections().length > 0) return;
        libp2p.removeEventListener('connection:close', look);
        resolve();
      };
      signal.addEventListener('abort', () => reject(new Error('the founder keeps the connection open')));
      libp2p.addEventListener('connection:close', look);
      look();
    });
  }

  /** The code with which the founder refuses a blob; `given` where it hands it out. */
  async blob(blob: string): Promise<string> {
    try {
      const signal = AbortSignal.timeout(10_000);
      await fetchBlobs(this.host, this.#invite.founder, [blob], new MemoryBlobStore(), signal, {
        triesMax: 1,
      });
      return 'given';
    } catch (error) {
      return asSuperfleetError(error).code;
    }
  }
}

const mesh = new Mesh();
const seed = randomBytes(32);
let eve: Liar;
let mallory: Liar;
let task: Record<string, { blob: string } | null> & { id: string; state: string };

const lease = (attempt: number): Lease => ({ task: newTaskId(randomBytes), attempt, epoch: 1 });

function resultOf(of: Lease): AttemptResult {
  return {
    ...of,
    role: 'execute',
    correlation: 'eve',
    outcome: 'succeeded',
    reason: null,
    fault: null,
    detail: null,
    exitCode: 0,
    commit: null,
    bundle: null,
    log: null,
    artifacts: [],
    envelope: '{}',
  };
}

test.before(async () => {
  await mesh.founder();
  const repository = await greeter(join(mesh.home, 'greeter'));
  const fix = ['sed', '-i', 's/Helo/Hello/', 'greet.sh'];
  const run = ['task', 'run', '--repo', repository, '--check', 'sh test.sh', '--on', 'hub', '--wait', '--'];
  task = await mesh.json([...run, ...fix]);
  assert.is(task.state, 'delivered');
  const { token } = await mesh.json<{ token: string }>(['invite', '--uses', '3']);
  eve = await Liar.make(token, seed);
  await eve.join('eve');
  mallory = await Liar.make(token, randomBytes(32));
});
test.after(async () => {
  await eve?.host.stop();
  await mallory?.host.stop();
  await mesh.close();
});

/** After each attack the founder serves. */
test.after.each(async () => {
  assert.is((await mesh.json<{ nodes: { total: number } }>(['status'])).nodes.total >= 2, true);
});

test('a member is refused the blobs of others, and given the roster (blobs)', async () => {
  await eve.open({ capacity: { ...HELLO.capacity, slots: 0 } });
  const roster = await eve.until(({ type }) => type === 'roster');
  assert.is(await eve.blob((roster as { blob: string }).blob), 'given');
  for (const field of ['bundle', 'log'] as const) {
    const { blob } = task[field]!;
    assert.is(await eve.blob(blob), 'SF_REFUSED', field);
  }
  assert.is(await eve.blob('0'.repeat(64)), 'SF_REFUSED', 'what is not there looks the same');
});

test('results, starts and stops of leases that are another’s change nothing (promise 12)', async () => {
  const others: Lease = { task: task.id, attempt: 1, epoch: 1 };
  for (const one of [others, lease(1)]) {
    eve.session!.send({ type: 'started', ...one, correlation: 'eve' });
    eve.session!.send({ type: 'stopped', ...one, correlation: 'eve', why: 'refused', detail: null });
    eve.session!.send({ type: 'result', result: resultOf(one) });
    const settled = await eve.until((message) => message.type === 'settled' && message.task === one.task);
    assert.is((settled as { accepted: boolean }).accepted, false);
  }
  const after = await mesh.json<typeof task>(['task', 'describe', task.id]);
  assert.is(after.state, 'delivered');
});

test('a hello with a thousand leases it never had is answered, and none of them goes on', async () => {
  const held = Array.from({ length: 1024 }, (_, n) => lease(n + 1));
  const welcome = await eve.open({ held, ready: held, capacity: { ...HELLO.capacity, slots: 0 } });
  assert.equal((welcome as { resume: Lease[] }).resume, []);
});

test('a frame that is too large, or a message that is none, ends its session in words (promise 18)', async () => {
  const tools = Object.fromEntries(Array.from({ length: 4_000 }, (_, n) => [`tool ${n}`, 'x'.repeat(100)]));
  eve.session!.send({ type: 'capacity', capacity: { ...HELLO.capacity, tools } });
  assert.is((await eve.closed()).code, 'SF_FRAME');
});

test('a name or a peer id that is taken is nobody else’s', async () => {
  await mallory.join('eve');
  const nodes = await mesh.json<{ items: { name: string; id: string }[] }>(['node', 'list']);
  const names = new Map(nodes.items.map(({ name, id }) => [name, id]));
  assert.is(names.get('eve'), eve.host.peer);
  assert.is(names.get('eve-2'), mallory.host.peer);
});

test('whoever is revoked is out at once, and its key stays out, with a fresh invite too', async () => {
  await eve.open({ capacity: { ...HELLO.capacity, slots: 0 } });
  await mesh.json(['node', 'revoke', 'eve']);
  assert.is((await eve.closed()).code, 'SF_REVOKED');
  await eve.hungUp();
  await assertRefused(() => eve.open(), 'SF_REVOKED');
  assert.is(await eve.blob(task.bundle!.blob), 'SF_UNREACHABLE');
  const { token } = await mesh.json<{ token: string }>(['invite']);
  const again = await Liar.make(token, seed);
  try {
    const refused = await again.join('innocent').then(
      () => 'admitted',
      (error: unknown) => asSuperfleetError(error).code,
    );
    assert.is(refused, 'SF_REVOKED');
  } finally {
    await again.host.stop();
  }
});

async function assertRefused(act: () => Promise<unknown>, code: string): Promise<void> {
  const said = await act().then(
    () => 'accepted',
    (error: Error) => error.message,
  );
  assert.match(said, code);
}

test.run();
