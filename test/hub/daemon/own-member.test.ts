import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { connectOwnMember } from '../../../hub/daemon/own-member.ts';
import type { Session } from '../../../node/network/session.ts';
import type { FounderMessage, MemberMessage } from '../../../protocol/session.ts';
import { HELLO } from '../core/fleet.ts';

/** Both halves of a founder's process, which only say hello and keep what they are attached to. */
function halves() {
  const founder: Session<FounderMessage>[] = [];
  const ends: string[] = [];
  let wake: (() => void) | null = null;
  const driver = {
    attach: (session: Session<FounderMessage>) => {
      founder.push(session);
      wake?.();
      return { onMessage: () => {}, onClosed: () => void ends.push(`founder ${founder.indexOf(session)}`) };
    },
  };
  const member = {
    attach: (session: Session<MemberMessage>) => {
      queueMicrotask(() => session.send(HELLO));
      return { onMessage: () => {}, onClosed: () => void ends.push('member') };
    },
  };
  const sessions = async (count: number): Promise<Session<FounderMessage>[]> => {
    while (founder.length < count) await new Promise<void>((resolve) => (wake = resolve));
    return founder;
  };
  return { driver, member, ends, sessions };
}

test('the founder’s own member comes back after its session has ended, whoever ended it', async () => {
  const { driver, member, ends, sessions } = halves();
  const stop = connectOwnMember(driver, member, 'founder');
  const [first] = await sessions(1);
  first!.close('SF_TIMEOUT', 'nothing was heard from this member for 31 s');
  assert.equal(ends, ['founder 0', 'member']);
  const [, second] = await sessions(2);
  assert.is.not(second!.id, first!.id);
  assert.is(second!.send({ type: 'pause' }), true);
  stop();
  second!.close('SF_UNREACHABLE', 'the founder is stopping');
});

test('once it is stopped, no session begins', async () => {
  const { driver, member, sessions } = halves();
  const stop = connectOwnMember(driver, member, 'founder');
  const [first] = await sessions(1);
  stop();
  first!.close('SF_UNREACHABLE', 'the founder is stopping');
  const begun = await Promise.race([
    sessions(2).then(() => true),
    new Promise((resolve) => setTimeout(() => resolve(false), 400)),
  ]);
  assert.is(begun, false);
});

test.run();
