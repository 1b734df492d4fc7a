import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { MemberCore } from '../../../node/core/member.ts';
import type { MemberEffect } from '../../../node/core/types.ts';
import type { FounderMessage } from '../../../protocol/session.ts';
import { taskSpec } from '../../../protocol/task.ts';
import { CAPACITY, MESH } from '../../hub/core/fleet.ts';

/** Urgent messages go before what waits for credit, so a cancel may come before the assignment that it is about. */
const LEASE = { task: 'abcdefghijkl', attempt: 1, epoch: 1 };
const SPEC = taskSpec.parse({ kind: 'command', argv: ['true'] });
const CANCEL: FounderMessage = { type: 'cancel', ...LEASE, correlation: 'c', why: 'cancelled' };

const assign = (attempt: number): FounderMessage => ({
  type: 'assign',
  assignment: {
    ...LEASE,
    attempt,
    role: 'execute',
    correlation: 'c',
    spec: SPEC,
    bundles: [],
    nonce: '0'.repeat(32),
    secrets: {},
    verify: null,
  },
});

function member() {
  const clock = () => ({ now: 1_000, time: 0, random: () => new Uint8Array(16) });
  const restored = { ready: [], ownerPaused: false, checkpoint: null, rosterVersion: 0 };
  const core = new MemberCore({ mesh: MESH, capacity: CAPACITY, ...restored }, clock());
  let session = 0;
  const hear = (message: FounderMessage): MemberEffect[] =>
    core.step({ type: 'received', session, message }, clock());
  const connect = (): void => {
    session += 1;
    core.step({ type: 'connected', session }, clock());
    hear({
      type: 'welcome',
      version: { major: 1, minor: 1 },
      features: [],
      mesh: MESH,
      epoch: 1,
      heartbeatMs: 5_000,
      leaseMs: 15_000,
      paused: false,
      resume: [],
      checkpoint: null,
    });
  };
  connect();
  return { core, hear, connect };
}

const starts = (effects: MemberEffect[]): number => effects.filter(({ type }) => type === 'start').length;

test('an assignment that comes after its cancel is not started (promise 15)', () => {
  const { core, hear } = member();
  const told = hear(CANCEL);
  assert.is(told.filter((effect) => effect.type === 'send' && effect.message.type === 'stopped').length, 1);
  assert.is(starts(hear(assign(1))), 0);
  assert.is(core.busy, 0);
  assert.is(starts(hear(assign(2))), 1, 'the next attempt is another one');
});

test('an assignment overtaken by the pause and the resume of the mesh is not started', () => {
  const { hear } = member();
  hear({ type: 'pause' });
  hear({ ...CANCEL, why: 'paused' } as FounderMessage);
  hear({ type: 'resume' });
  assert.is(starts(hear(assign(1))), 0);
});

test('what a founder cancels without end takes no memory without end', () => {
  const { hear } = member();
  for (let attempt = 1; attempt <= 5_000; attempt += 1) hear({ ...CANCEL, attempt } as FounderMessage);
  assert.is(starts(hear(assign(5_000))), 0, 'the newest are known');
  assert.is(starts(hear(assign(1))), 1, 'the oldest are not');
});

test('a new session begins without the cancels of the one before', () => {
  const { hear, connect } = member();
  hear(CANCEL);
  connect();
  assert.is(starts(hear(assign(1))), 1);
});

test.run();
