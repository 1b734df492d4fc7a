import { loopbackSession } from '../../node/daemon/loopback.ts';
import type { MemberDriver } from '../../node/daemon/member.ts';
import type { SessionEnd, SessionHandlers } from '../../node/network/session.ts';
import type { FounderMessage, MemberMessage } from '../../protocol/session.ts';
import type { FounderDriver } from './founder.ts';

/** Session numbers of the in-process session count up from here; those of the wire from one. */
const OWN_SESSIONS = 2 ** 52;
/** Between the end of one session and the next. */
const AGAIN_MS = 250;

/**
 * The founder's own member speaks the session interface to the founder's driver, in this process. As any member's link
 * it begins anew after each end: a process that was stopped for longer than a lease finds its two halves apart. Answers
 * with what ends it.
 */
export function connectOwnMember(
  driver: Pick<FounderDriver, 'attach'>,
  member: Pick<MemberDriver, 'attach'>,
  peer: string,
): () => void {
  let sessions = OWN_SESSIONS;
  let again: NodeJS.Timeout | null = null;
  let stopped = false;
  const open = (): void => {
    const [founderSide, memberSide] = loopbackSession<MemberMessage, FounderMessage>(sessions++, peer);
    let attached: SessionHandlers<MemberMessage> | null = null;
    founderSide.run({
      onMessage: (message) => {
        if (attached !== null) return attached.onMessage(message);
        if (message.type === 'hello') attached = driver.attach(founderSide, message);
      },
      onClosed: (end: SessionEnd) => attached?.onClosed(end),
    });
    memberSide.run(member.attach(memberSide));
    void founderSide.closed.then(() => {
      if (!stopped) again = setTimeout(open, AGAIN_MS);
    });
  };
  open();
  return () => {
    stopped = true;
    if (again !== null) clearTimeout(again);
  };
}
