import type { MeshState } from '../../ledger/state/state.ts';
import type { OwnerPort } from '../../node/api/port.ts';
import { systemClock } from '../../node/daemon/clock.ts';
import { loopbackSession } from '../../node/daemon/loopback.ts';
import type { Machine } from '../../node/daemon/machine.ts';
import type { MemberDriver } from '../../node/daemon/member.ts';
import { MemberService } from '../../node/daemon/member-service.ts';
import { modelsPort } from '../../node/daemon/models-port.ts';
import type { SessionEnd, SessionHandlers } from '../../node/network/session.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
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

/** What every machine does for its mesh, on the founder's own. */
export async function startOwnMember(
  machine: Machine,
  { mesh, self, state, listens }: { mesh: string; self: string; state: MeshState; listens?: () => string[] },
): Promise<MemberService> {
  const { blobs, config, logger } = machine;
  const me = state.members.byPeer.get(self);
  return MemberService.start({
    machine,
    mesh,
    me: { id: self, name: me?.name ?? config.name ?? 'founder' },
    roles: me?.roles ?? [],
    owner: me?.owner ?? null,
    // Its store is the mesh's: what others still need is not a settled result's to delete.
    ownsBlobs: false,
    slots: config.slots,
    labels: config.labels,
    policy: { owner: config.policy, invite: me?.policy ?? null },
    inhibitSleep: config.inhibitSleep,
    rosterVersion: state.mesh.size,
    // Where this machine sleeps the founder sleeps with it, and no lease of its own member runs out.
    clock: systemClock,
    fetch: async (wanted) => {
      for (const blob of wanted) {
        if (await blobs.has(blob)) continue;
        throw new SuperfleetError('SF_NOT_FOUND', `the founder does not hold the blob ${blob}`);
      }
    },
    takeRoster: async () => state.mesh.size,
    ...(listens === undefined ? {} : { listens }),
    refused: (code, message) => logger.error({ code }, message),
  });
}

/** The owner's view of that member. */
export const ownerOf = (member: MemberService, stop: () => void): OwnerPort => ({
  status: async () => ({
    ...member.status(),
    replica: null,
    environments: await member.environments.held(),
    settings: member.settings,
  }),
  pause: (ms) => member.pause(ms),
  resume: () => member.resume(),
  policy: (test) => member.owner.show(test),
  setPolicy: (policy) => member.owner.set(policy),
  leave: () =>
    Promise.reject(
      new SuperfleetError('SF_CONFLICT', 'the founder cannot leave its own mesh', {
        hint: 'mesh-hub stop',
      }),
    ),
  ...modelsPort(member.models),
  stop,
});
