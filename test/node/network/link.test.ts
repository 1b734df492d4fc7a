import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { acceptSessions, type FounderSessions } from '../../../node/network/founder-sessions.ts';
import type { Host } from '../../../node/network/host.ts';
import { type Link, type LinkState, startLink } from '../../../node/network/link.ts';
import type { Registry } from '../../../node/network/registry.ts';
import type { Session } from '../../../node/network/session.ts';
import type { FounderMessage, MemberMessage } from '../../../protocol/session.ts';
import { connect, hello, MESH, type Net, Signal, welcome, withNet } from './hosts.ts';

const serve = (registry: Registry, greeting: FounderMessage = welcome): Promise<FounderSessions> =>
  acceptSessions({
    registry,
    mesh: MESH,
    onSession: (session) => {
      session.send(greeting);
      return { onMessage: () => {}, onClosed: () => {} };
    },
  });

/** A link with short waits, and its states as they come. */
function linked(
  net: Net,
  member: Host,
  founder: string,
  addresses: () => string[],
  attached: (session: Session<MemberMessage>) => void = () => {},
): { link: Link; states: Signal<LinkState> } {
  const states = new Signal<LinkState>();
  const link = startLink({
    host: member,
    founder: () => founder,
    addresses,
    attach: (session) => {
      session.send(hello());
      attached(session);
      return { onMessage: () => {}, onClosed: () => {} };
    },
    onState: (state) => states.put(state),
    retryMs: { first: 5, max: 40 },
  });
  net.onStop(() => link.stop());
  return { link, states };
}

async function until<S extends LinkState['state']>(
  states: Signal<LinkState>,
  wanted: S,
): Promise<Extract<LinkState, { state: S }>> {
  for (;;) {
    const state = await states.next();
    if (state.state === wanted) return state as Extract<LinkState, { state: S }>;
  }
}

test(
  'a member comes back by itself after the connection is lost',
  withNet(async (net) => {
    const founder = await net.founding();
    const sessions = await serve(founder.registry);
    const member = await net.member();
    const { states } = linked(net, member, founder.host.peer, () => founder.host.addresses());
    for (let round = 0; round < 3; round++) {
      const { session } = await until(states, 'online');
      assert.ok(session > 0);
      assert.is(sessions.size, 1);
      for (const connection of founder.host.libp2p.getConnections()) connection.abort(new Error('cut'));
      await until(states, 'waiting');
    }
    await until(states, 'online');
  }),
);

test(
  'a member finds its founder again at another address',
  withNet(async (net) => {
    const founder = await net.founding();
    await serve(founder.registry);
    const member = await net.member();
    let addresses = ['/ip4/127.0.0.1/tcp/1'];
    const { link, states } = linked(net, member, founder.host.peer, () => addresses);
    const waiting = await until(states, 'waiting');
    assert.is(waiting.code, 'SF_UNREACHABLE');
    assert.ok(waiting.retryMs <= 40);
    addresses = founder.host.addresses();
    link.retryNow();
    await until(states, 'online');
  }),
);

test(
  'a session that fell silent goes with its connection, and the founder is dialled again without a longer wait',
  withNet(async (net) => {
    const founder = await net.founding();
    await serve(founder.registry);
    const member = await net.member();
    const opened = new Signal<Session<MemberMessage>>();
    const { states } = linked(
      net,
      member,
      founder.host.peer,
      () => founder.host.addresses(),
      (session) => opened.put(session),
    );
    await until(states, 'online');
    const [connection] = member.libp2p.getConnections();
    (await opened.next()).close('SF_TIMEOUT', 'nothing was heard for too long');
    const waiting = await until(states, 'waiting');
    assert.is(waiting.code, 'SF_TIMEOUT');
    assert.ok(waiting.retryMs <= 8, `${waiting.retryMs} ms: as after any loss`);
    assert.is.not(connection?.status, 'open');
    await until(states, 'online');
  }),
);

test(
  'a revoked member is told so and stops for good',
  withNet(async (net) => {
    const founder = await net.founding();
    const sessions = await serve(founder.registry);
    const member = await net.member();
    const { link, states } = linked(net, member, founder.host.peer, () => founder.host.addresses());
    await until(states, 'online');
    net.members.delete(member.peer);
    net.revoked.add(member.peer);
    sessions.close(member.peer, 'SF_REVOKED', 'you were revoked');
    const refused = await until(states, 'refused');
    assert.equal([refused.code, refused.message], ['SF_REVOKED', 'you were revoked']);
    await link.stop();
    assert.is(link.state.state, 'refused');
    const later = linked(net, member, founder.host.peer, () => founder.host.addresses());
    assert.is((await until(later.states, 'refused')).code, 'SF_REVOKED', 'also when it was away at the time');
  }),
);

test(
  'a founder of another major version ends the link in words',
  withNet(async (net) => {
    const founder = await net.founding();
    await serve(founder.registry, { ...welcome, version: { major: 3, minor: 1 } } as FounderMessage);
    const member = await net.member();
    const { states } = linked(net, member, founder.host.peer, () => founder.host.addresses());
    const refused = await until(states, 'refused');
    assert.is(refused.code, 'SF_VERSION');
    assert.match(refused.message, /this member speaks 1\.2.*got 3\.1/);
  }),
);

test(
  'a link that is stopped leaves no session and no timer',
  withNet(async (net) => {
    const founder = await net.founding();
    const sessions = await serve(founder.registry);
    const member = await net.member();
    const { link, states } = linked(net, member, founder.host.peer, () => founder.host.addresses());
    await until(states, 'online');
    await link.stop();
    assert.is(link.state.state, 'stopped');
    // The founder hears it on the same connection, in order: a stream opened now comes after the goodbye.
    await (await connect(member, founder.host)).newStream('/superfleet/id/1.0.0');
    assert.is(sessions.size, 0);
  }),
);

test.run();
