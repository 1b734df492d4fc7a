import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { acceptSessions } from '../../../node/network/founder-sessions.ts';
import { openSession } from '../../../node/network/member-session.ts';
import type { Session, SessionEnd } from '../../../node/network/session.ts';
import type { FounderMessage, MemberMessage } from '../../../protocol/session.ts';
import { connect, hello, lease, MESH, type Net, Signal, welcome, withNet } from './hosts.ts';

interface FounderSide {
  session: Session<FounderMessage>;
  messages: Signal<MemberMessage>;
  ends: Signal<SessionEnd>;
}

/** A founder that welcomes everyone, and one signal with each session it gets. */
async function founderOf(net: Net) {
  const { host, registry, errors } = await net.founding();
  const arrivals = new Signal<FounderSide>();
  const sessions = await acceptSessions({
    registry,
    mesh: MESH,
    limits: { firstMs: 1_000 },
    onSession: (session) => {
      const side: FounderSide = { session, messages: new Signal(), ends: new Signal() };
      session.send(welcome);
      arrivals.put(side);
      return {
        onMessage: (message) => side.messages.put(message),
        onClosed: (end) => side.ends.put(end),
      };
    },
  });
  return { host, registry, errors, sessions, arrivals };
}

type Founder = Awaited<ReturnType<typeof founderOf>>;

async function memberOf(
  net: Net,
  founder: Founder,
  greeting: MemberMessage | null = hello(),
  member = net.member(),
) {
  const host = await member;
  const messages = new Signal<FounderMessage>();
  const ends = new Signal<SessionEnd>();
  const session = await openSession(await connect(host, founder.host), () => ({
    onMessage: (message) => messages.put(message),
    onClosed: (end) => ends.put(end),
  }));
  if (greeting !== null) session.send(greeting);
  return { host, session, messages, ends };
}

test(
  'a member and the founder greet each other and exchange messages in order',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const member = await memberOf(net, founder);
    const side = await founder.arrivals.next();
    assert.is(side.session.peer, member.host.peer);
    assert.is((await member.messages.next()).type, 'welcome');
    for (let n = 1; n <= 1000; n++) member.session.send({ type: 'started', ...lease(n) });
    for (let n = 1; n <= 1000; n++) {
      const message = await side.messages.next();
      assert.ok(message.type === 'started' && message.attempt === n);
    }
    side.session.close('SF_UNREACHABLE', 'bye');
    assert.equal(await member.ends.next(), { code: 'SF_UNREACHABLE', message: 'bye', by: 'peer' });
    assert.is((await side.session.closed).by, 'us');
    assert.is(member.session.send({ type: 'heartbeat', sequence: 1 }), false);
    assert.is(founder.sessions.size, 0);
  }),
);

test(
  'a newer session of a member replaces the older one, which is told so',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const first = await memberOf(net, founder);
    const firstSide = await founder.arrivals.next();
    const second = await memberOf(net, founder, hello(), Promise.resolve(first.host));
    assert.is((await first.ends.next()).code, 'SF_CONFLICT');
    assert.is((await firstSide.ends.next()).code, 'SF_CONFLICT');
    const side = await founder.arrivals.next();
    assert.ok(side.session.id > firstSide.session.id);
    assert.is((await second.messages.next()).type, 'welcome');
    assert.is(founder.sessions.size, 1);
  }),
);

test(
  'a member with another major version is told so in words',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const member = await memberOf(net, founder, hello({ version: { major: 2, minor: 3 } }));
    const end = await member.ends.next();
    assert.is(end.code, 'SF_VERSION');
    assert.match(end.message, /this founder speaks 1\.2/);
    assert.match(end.message, /got 2\.3/);
  }),
);

test(
  'a member of another mesh is refused in words',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const member = await memberOf(net, founder, hello({ mesh: 'b'.repeat(64) }));
    const end = await member.ends.next();
    assert.is(end.code, 'SF_REFUSED');
    assert.match(end.message, /another mesh/);
  }),
);

test(
  'a session without a hello is ended within its bound',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const member = await memberOf(net, founder, null);
    assert.is((await member.ends.next(5_000)).by, 'network');
  }),
);

test(
  'a session that begins with something else than hello is ended in words',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const member = await memberOf(net, founder, { type: 'heartbeat', sequence: 1 });
    const end = await member.ends.next();
    assert.is(end.code, 'SF_FRAME');
    assert.match(end.message, /expected hello, got heartbeat/);
  }),
);

test(
  'a stranger and a revoked member can open no session, and are told why',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const stranger = await memberOf(net, founder, hello(), net.host());
    assert.is((await stranger.ends.next()).code, 'SF_REFUSED');
    const revoked = await net.host();
    net.revoked.add(revoked.peer);
    const member = await memberOf(net, founder, hello(), Promise.resolve(revoked));
    const end = await member.ends.next();
    assert.is(end.code, 'SF_REVOKED');
    assert.match(end.message, /revoked/);
    assert.is(founder.sessions.size, 0);
  }),
);

test(
  'revocation closes the connections of a member at once',
  withNet(async (net) => {
    const founder = await founderOf(net);
    const member = await memberOf(net, founder);
    await member.messages.next();
    net.members.delete(member.host.peer);
    founder.sessions.close(member.host.peer, 'SF_REVOKED', 'revoked');
    assert.is((await member.ends.next()).code, 'SF_REVOKED');
    founder.registry.dropPeer(member.host.peer);
    assert.is(founder.sessions.size, 0);
  }),
);

test(
  'a long hello is welcomed, also where the credit it took comes back before the welcome',
  withNet(async (net) => {
    const { host, registry } = await net.founding();
    const onSession = (session: Session<FounderMessage>) => {
      // As a founder whose welcome waits for its disk.
      setImmediate(() => session.send(welcome));
      return { onMessage: () => {}, onClosed: () => {} };
    };
    await acceptSessions({ registry, mesh: MESH, onSession });
    const held = Array.from({ length: 1024 }, (_, n) => lease(n + 1));
    const messages = new Signal<string>();
    const session = await openSession(await connect(await net.member(), host), () => ({
      onMessage: ({ type }) => messages.put(type),
      onClosed: ({ code, message }) => messages.put(`${code}: ${message}`),
    }));
    session.send(hello({ held, ready: held }));
    assert.is(await messages.next(), 'welcome');
  }),
);

test.run();
