import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { heldEffectsMax } from '../../../hub/core/gate.ts';
import type { FounderEffect, FounderInput } from '../../../hub/core/types.ts';
import { FounderDriver, type FounderDriverOptions } from '../../../hub/daemon/founder.ts';
import { MemoryStorage } from '../../../ledger/storage/storage-memory.ts';
import type { Session, SessionHandlers } from '../../../node/network/session.ts';
import type { SuperfleetError } from '../../../protocol/errors.ts';
import type { FounderMessage, MemberMessage } from '../../../protocol/session.ts';
import { newLog } from '../../ledger/kit.ts';
import { HELLO, LOCAL } from '../core/fleet.ts';

/** A session of a test: what it was sent; `full` ends it at the next message, as a queue that holds no more does. */
class TestSession implements Session<FounderMessage> {
  readonly id: number;
  readonly peer: string;
  readonly closed = Promise.resolve({ code: 'SF_FULL', message: '', by: 'us' as const });
  readonly sent: string[] = [];
  full = false;
  handlers: SessionHandlers<MemberMessage> | null = null;

  constructor(id: number, peer: string) {
    this.id = id;
    this.peer = peer;
  }

  send(message: FounderMessage): boolean {
    if (this.full) this.close('SF_FULL', 'full');
    else this.sent.push(message.type === 'renamed' ? message.name : message.type);
    return !this.full;
  }

  close(code: string, message: string): void {
    this.handlers?.onClosed({ code, message, by: 'us' });
  }
}

/** A driver over a real log in memory, with a core that does what the test says. */
async function driverOf(
  decide: (input: FounderInput) => FounderEffect[],
  roster: FounderDriverOptions['roster'] = () => new Promise(() => {}),
  steps: (inputs: readonly FounderInput[]) => void = () => {},
  collect: FounderDriverOptions['collect'] = () => new Promise(() => {}),
) {
  const log = await newLog(new MemoryStorage());
  const failures: SuperfleetError[] = [];
  const inputs: FounderInput[] = [];
  const driver = new FounderDriver({
    core: {
      stepAll: (all) => {
        inputs.push(...all);
        steps(all);
        return all.flatMap(decide);
      },
    },
    log,
    collect,
    recall: async () => ({ tasks: [] }),
    roster,
    drop: () => {},
    failed: (error) => failures.push(error),
  });
  const attach = (id: number, peer: string): TestSession => {
    const session = new TestSession(id, peer);
    session.handlers = driver.attach(session, HELLO);
    return session;
  };
  const stop = async (): Promise<void> => {
    driver.stop();
    await log.close();
  };
  return { driver, failures, inputs, attach, stop };
}

const named = (session: number, peer: string, name: string): FounderEffect => ({
  type: 'send',
  after: 0,
  peer,
  session,
  message: { type: 'renamed', name },
});

/** What came in this turn of the event loop is taken at its end. */
const turn = (): Promise<void> => new Promise((resolve) => setImmediate(resolve));

test('messages of one turn are one step, and whatever else comes is taken after those that came before it', async () => {
  const steps: string[][] = [];
  const { driver, attach, stop } = await driverOf(
    () => [],
    undefined,
    (all) => steps.push(all.map((input) => (input.type === 'received' ? input.message.type : input.type))),
  );
  const { handlers } = attach(1, 'ada');
  await turn();
  steps.length = 0;
  const heartbeat = { type: 'heartbeat', sequence: 1 } as const;
  handlers!.onMessage(heartbeat);
  handlers!.onMessage({ type: 'leave' });
  assert.equal(steps, []);
  driver.request({ op: 'status' }, LOCAL).catch(() => {});
  handlers!.onMessage(heartbeat);
  assert.equal(steps, [['heartbeat', 'leave'], ['request']]);
  await turn();
  assert.equal(steps.slice(2), [['heartbeat']]);
  handlers!.onMessage(heartbeat);
  driver.hold();
  assert.equal(steps.slice(3), [['heartbeat']], 'what came before it was held is decided');
  const waits = handlers!.onMessage(heartbeat);
  await turn();
  assert.is(steps.length, 4);
  driver.release();
  await waits;
  await turn();
  assert.equal(steps.slice(4), [['heartbeat']]);
  for (let n = 0; n < 300; n++) handlers!.onMessage(heartbeat);
  assert.equal(
    steps.slice(5).map(({ length }) => length),
    [256],
  );
  handlers!.onClosed({ code: 'SF_UNREACHABLE', message: '', by: 'network' });
  assert.equal(
    steps.slice(6).map(({ length }) => length),
    [44, 1],
  );
  await stop();
});

test('what an effect brings about comes after what was decided before it', async () => {
  const { driver, attach, stop } = await driverOf((input) => {
    if (input.type === 'request') return [named(1, 'ada', 'never'), named(2, 'bob', 'first')];
    return input.type === 'disconnected' ? [named(2, 'bob', 'second')] : [];
  });
  const [ada, bob] = [attach(1, 'ada'), attach(2, 'bob')];
  ada.full = true;
  driver.request({ op: 'status' }, LOCAL).catch(() => {});
  assert.equal(bob.sent, ['first', 'second']);
  await stop();
});

test('what was held is taken up in its order, before what came after it and what it brings about', async () => {
  const seen: string[] = [];
  const lease = { task: 'aaaaaaaaaaaa', attempt: 1, epoch: 1 };
  const collected = Promise.withResolvers<void>();
  const { driver, attach, stop } = await driverOf(
    (input) => {
      seen.push(input.type === 'request' ? input.operation.op : input.type);
      if (input.type !== 'request') return [];
      if (input.operation.op === 'mesh.pause') return [named(1, 'ada', 'never')];
      if (input.operation.op !== 'node.list') return [];
      return [
        { type: 'collect', peer: 'bob', session: 2, lease, role: 'execute', blobs: [], envelope: null },
      ];
    },
    undefined,
    undefined,
    async ({ peer }) => {
      await collected.promise;
      return { type: 'collected', peer, lease, envelopeBlob: null, failure: null };
    },
  );
  attach(1, 'ada').full = true;
  const ask = (op: 'node.list' | 'mesh.pause' | 'mesh.resume'): void =>
    void driver.request({ op }, LOCAL).catch(() => {});
  ask('node.list');
  driver.hold();
  seen.length = 0;
  ask('mesh.pause');
  ask('mesh.resume');
  // It comes last, in the turn in which all goes on.
  collected.resolve();
  for (let n = 0; n < 8; n += 1) await null;
  assert.equal(seen, []);
  driver.release();
  assert.equal(seen, ['mesh.pause', 'mesh.resume', 'collected', 'disconnected']);
  ask('mesh.resume');
  assert.is(seen.at(-1), 'mesh.resume');
  await stop();
});

test('a founder that decides more than may wait for the disk stops, and no session is handed its fault', async () => {
  const waiting: FounderEffect = {
    ...named(1, 'ada', 'late'),
    after: Number.MAX_SAFE_INTEGER,
  } as FounderEffect;
  const { failures, attach, stop } = await driverOf((input) =>
    input.type === 'received' ? Array.from({ length: heldEffectsMax + 1 }, () => waiting) : [],
  );
  await attach(1, 'ada').handlers!.onMessage({ type: 'heartbeat', sequence: 1 });
  await turn();
  assert.equal(
    failures.map(({ code }) => code),
    ['SF_FULL'],
  );
  await stop();
});

test('a core that contradicts itself stops the founder, and whoever waits is told', async () => {
  const { driver, failures, stop } = await driverOf((input) => {
    if (input.type === 'request') throw new Error('a defect');
    return [];
  });
  const answer = await driver.request({ op: 'status' }, LOCAL).catch((error: SuperfleetError) => error.code);
  assert.is(answer, 'SF_UNREACHABLE');
  assert.is(failures.length, 1);
  await stop();
});

test('the roster is handed out at the start, and an older one that was stored later never takes its place', async () => {
  const stored: ((version: number) => void)[] = [];
  const { driver, inputs, stop } = await driverOf(
    (input) => (input.type === 'request' ? [{ type: 'membership', after: 0, removed: ['gone'] }] : []),
    () => new Promise((resolve) => stored.push((version) => resolve({ version, blob: `roster ${version}` }))),
  );
  assert.is(stored.length, 1);
  driver.request({ op: 'status' }, LOCAL).catch(() => {});
  stored[1]!(8);
  await Promise.resolve();
  stored[0]!(7);
  await new Promise((resolve) => setImmediate(resolve));
  const told = inputs.flatMap((input) => (input.type === 'roster' ? [input.version] : []));
  assert.equal(told, [8]);
  await stop();
});

test('members that come at once share a roster; one that is shut out waits for nobody', async () => {
  let removed: string[] = [];
  let signed = 0;
  let told = (): void => {};
  const { driver, stop } = await driverOf(
    (input) => {
      if (input.type === 'roster') told();
      return input.type === 'request' ? [{ type: 'membership', after: 0, removed }] : [];
    },
    async () => ({ version: ++signed, blob: `roster ${signed}` }),
  );
  assert.is(signed, 1, 'at the start');
  for (let n = 0; n < 50; n++) driver.request({ op: 'status' }, LOCAL).catch(() => {});
  assert.is(signed, 1);
  await new Promise<void>((resolve) => {
    told = resolve;
  });
  assert.is(signed, 2, 'one for all of them');
  driver.request({ op: 'status' }, LOCAL).catch(() => {});
  removed = ['gone'];
  driver.request({ op: 'status' }, LOCAL).catch(() => {});
  assert.is(signed, 3, 'at once, and with whoever came before');
  await stop();
});

test.run();
