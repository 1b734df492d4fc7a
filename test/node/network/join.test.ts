import { randomBytes } from 'node:crypto';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { FrameChannel } from '../../../node/network/channel.ts';
import {
  describe,
  type FoundFounder,
  type Joined,
  joinByApproval,
  joinByInvite,
} from '../../../node/network/join-client.ts';
import { type JoinServerOptions, serveJoins } from '../../../node/network/join-server.ts';
import type { Admitted, Applicant } from '../../../node/network/pending-joins.ts';
import { issueCertificate } from '../../../protocol/certificate.ts';
import { encodeEnvelope } from '../../../protocol/dsse.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { frameOf, parseFrame } from '../../../protocol/frame.ts';
import { meshIdOfLine } from '../../../protocol/genesis.ts';
import { newNonce } from '../../../protocol/ids.ts';
import { type Invite, newInviteSecret, secretHash } from '../../../protocol/invite.ts';
import { JOIN_PROTOCOL, joinAnswerSchema } from '../../../protocol/join.ts';
import { newSigningKey, publicKeyToBase64 } from '../../../protocol/keys.ts';
import { signRoster } from '../../../protocol/roster.ts';
import { commitNonce } from '../../../protocol/short-code.ts';
import { refused } from '../../refused.ts';
import { connect, type Net, Signal, withNet } from './hosts.ts';

const never = new AbortController().signal;

/** A founder with a log key, one invite, and everything a join needs. */
async function founding(
  net: Net,
  limits: JoinServerOptions['limits'] & { strangersMax?: number; strangerMs?: number } = {},
) {
  const { host, registry, errors } = await net.founding(limits);
  const logKey = newSigningKey((length) => randomBytes(length));
  const genesis = JSON.stringify({
    index: 0,
    epoch: 1,
    time: 1,
    type: 'mesh.created',
    body: {
      format: 1,
      name: 'home',
      founder: host.peer,
      logKey: publicKeyToBase64(logKey.publicKey),
      recoveryKey: publicKeyToBase64(logKey.publicKey),
    },
  });
  const mesh = meshIdOfLine(genesis);
  const members = new Map<string, Admitted>();
  const admit = ({ peer, name, owner }: Applicant): Admitted => {
    net.members.add(peer);
    const certificate = encodeEnvelope(
      issueCertificate(
        {
          mesh,
          peer,
          name,
          owner: owner ?? 'ada',
          roles: ['worker'],
          labels: {},
          epoch: 1,
          index: 2,
          issuedAt: 1,
        },
        logKey,
      ),
    );
    const roster = encodeEnvelope(
      signRoster(
        {
          mesh,
          epoch: 1,
          version: 1,
          members: [{ peer, name, owner: owner ?? 'ada', roles: [] }],
          revoked: [],
        },
        logKey,
      ),
    );
    const admitted = { genesis, certificate, roster };
    members.set(peer, admitted);
    return admitted;
  };
  const invite: Invite = {
    mesh,
    founder: host.peer,
    addresses: host.addresses(),
    secret: newInviteSecret((length) => randomBytes(length)),
    expiresAt: Date.now() + 60_000,
    roles: ['worker'],
  };
  const unused = new Set([secretHash(invite.secret)]);
  const added = new Signal<string>();
  const gone = new Signal<string>();
  const server = await serveJoins({
    registry,
    mesh,
    name: 'home',
    admitByInvite: async (applicant, hash) => {
      if (!unused.delete(hash)) throw new SuperfleetError('SF_INVITE', 'the invite is unknown or used up');
      return admit(applicant);
    },
    readmit: async (peer) => members.get(peer) ?? null,
    pendingAdded: ({ code }) => added.put(code),
    pendingGone: (_join, why) => gone.put(why),
    limits,
  });
  const found: FoundFounder = { peer: host.peer, addresses: host.addresses(), mesh, name: 'home' };
  return { host, registry, errors, server, invite, found, admit, added, gone, mesh };
}

test(
  'a stranger with an invite is admitted, with proofs that hold',
  withNet(async (net) => {
    const founder = await founding(net);
    const joiner = await net.host();
    const joined = await joinByInvite(joiner, founder.invite, { name: 'two', owner: null }, never);
    assert.is(joined.mesh, founder.mesh);
    assert.is(joined.meshName, 'home');
    assert.equal([joined.facts.name, joined.facts.owner, joined.facts.peer], ['two', 'ada', joiner.peer]);
    assert.is(founder.registry.strangers, 0, 'it counts as a member from now on');
    const again = await joinByInvite(joiner, founder.invite, { name: 'two', owner: null }, never);
    assert.equal(again.facts, joined.facts, 'an answer that was lost is given again');
  }),
);

test(
  'an invite that was used is refused, and so is one of another mesh',
  withNet(async (net) => {
    const founder = await founding(net);
    await joinByInvite(await net.host(), founder.invite, { name: 'two', owner: null }, never);
    const joiner = await net.host();
    const join = (invite: Invite) => joinByInvite(joiner, invite, { name: 'three', owner: null }, never);
    assert.is((await refused(join(founder.invite))).code, 'SF_INVITE');
    const other = await refused(join({ ...founder.invite, mesh: 'f'.repeat(64) }));
    assert.is(other.code, 'SF_INVITE');
    assert.match(other.message, /another mesh/);
  }),
);

test(
  'the secret is sent to nobody but the founder the invite names',
  withNet(async (net) => {
    const founder = await founding(net);
    const impostor = await net.host();
    const asked: string[] = [];
    await impostor.libp2p.handle(JOIN_PROTOCOL, async (stream) => {
      asked.push(stream.id);
    });
    const invite = {
      ...founder.invite,
      addresses: impostor.addresses().map((a) => a.replace(/\/p2p\/.*/, '')),
    };
    const error = await refused(joinByInvite(await net.host(), invite, { name: 'two', owner: null }, never));
    assert.is(error.code, 'SF_UNREACHABLE');
    assert.match(error.message, /another identity/);
    assert.equal(asked, []);
  }),
);

test(
  'a machine without an invite is approved by the code that both screens show',
  withNet(async (net) => {
    const founder = await founding(net);
    const joiner = await net.host();
    const seen = new Signal<string>();
    const joining = joinByApproval(
      joiner,
      founder.found,
      { name: 'two', owner: 'bob' },
      (c) => seen.put(c),
      never,
    );
    const code = await seen.next();
    assert.is(await founder.added.next(), code);
    assert.match(code, /^\d{3}-\d{3}-\d{3}$/);
    assert.is(founder.server.pending()[0]?.name, 'two');
    const approved = await founder.server.approve(code.replaceAll('-', ' '), async (who) =>
      founder.admit(who),
    );
    assert.is(approved.peer, joiner.peer);
    const joined: Joined = await joining;
    assert.is(joined.facts.owner, 'bob');
    assert.is(await founder.gone.next(), 'approved');
    assert.equal(founder.server.pending(), []);
    assert.is(
      (await refused(founder.server.approve(code, async (who) => founder.admit(who)))).code,
      'SF_NOT_FOUND',
    );
  }),
);

test(
  'a person who says no, nobody in time, and a joiner that leaves, each end the request in words',
  withNet(async (net) => {
    const founder = await founding(net, { pendingMs: 400 });
    const seen = new Signal<string>();
    const ask = (host: Awaited<ReturnType<Net['host']>>, signal = never) =>
      joinByApproval(host, founder.found, { name: 'two', owner: null }, (code) => seen.put(code), signal);

    const rejected = refused(ask(await net.host()));
    founder.server.reject(await seen.next());
    assert.is((await rejected).code, 'SF_REJECTED');
    assert.is(await founder.gone.next(), 'rejected');

    assert.is((await refused(ask(await net.host()))).code, 'SF_EXPIRED');
    assert.is(await founder.gone.next(), 'expired');
    await seen.next();

    const leaving = new AbortController();
    const left = refused(ask(await net.host(), leaving.signal));
    await seen.next();
    leaving.abort(new SuperfleetError('SF_INTERRUPTED', 'enough'));
    assert.is((await left).code, 'SF_INTERRUPTED');
    assert.is(await founder.gone.next(), 'left');
    assert.equal(founder.server.pending(), []);
  }),
);

test(
  'an admission that fails leaves the request waiting, and the operator knows why',
  withNet(async (net) => {
    const founder = await founding(net);
    const seen = new Signal<string>();
    const joining = joinByApproval(
      await net.host(),
      founder.found,
      { name: 'a', owner: null },
      (c) => seen.put(c),
      never,
    );
    const code = await seen.next();
    const taken = founder.server.approve(code, async () => {
      throw new SuperfleetError('SF_EXISTS', 'the name is taken');
    });
    assert.is((await refused(taken)).code, 'SF_EXISTS');
    await founder.server.approve(code, async (who) => founder.admit({ ...who, name: 'b' }));
    assert.is((await joining).facts.name, 'b');
  }),
);

test(
  'few requests wait at one time, and fewer from one address (promise 18)',
  withNet(async (net) => {
    const founder = await founding(net, { pendingMax: 3, pendingPerAddressMax: 2 });
    const seen = new Signal<string>();
    const stop = new AbortController();
    const ask = async () =>
      joinByApproval(
        await net.host(),
        founder.found,
        { name: 'x', owner: null },
        (c) => seen.put(c),
        stop.signal,
      );
    const waiting = [refused(ask()), refused(ask())];
    await seen.next();
    await seen.next();
    const error = await refused(ask());
    assert.is(error.code, 'SF_FULL');
    assert.is(founder.server.pending().length, 2);
    const joined = await joinByInvite(await net.host(), founder.invite, { name: 'two', owner: null }, never);
    assert.is(joined.facts.name, 'two', 'an invite needs no room');
    stop.abort(new SuperfleetError('SF_INTERRUPTED', 'enough'));
    await Promise.all(waiting);
  }),
);

test(
  'nobody draws codes without end: neither by asking and not revealing, nor by revealing and leaving (promise 18)',
  withNet(async (net) => {
    const founder = await founding(net, { triesMax: 6, triesPerAddressMax: 4 });
    const connection = await connect(await net.host(), founder.host);
    const ask = async (reveals: boolean): Promise<string> => {
      const channel = new FrameChannel(await connection.newStream(JOIN_PROTOCOL));
      const nonce = newNonce(randomBytes);
      const { mesh } = founder;
      const request = { type: 'request', mesh, name: 'eve', owner: null, commitment: commitNonce(nonce) };
      const say = async (message: { type: string }): Promise<string> => {
        await channel.write(frameOf(message));
        const answer = parseFrame(await channel.expect(), joinAnswerSchema, 1).messages[0];
        return answer?.type === 'refused' ? answer.code : (answer?.type ?? 'nothing');
      };
      let said = await say(request);
      if (reveals && said === 'nonce') said = await say({ type: 'reveal', nonce } as { type: string });
      channel.abort(new Error('enough'));
      if (said === 'pending') await founder.gone.next();
      return said;
    };
    assert.equal(
      [await ask(false), await ask(true), await ask(false), await ask(true)],
      ['nonce', 'pending', 'nonce', 'pending'],
    );
    assert.is(await ask(false), 'SF_FULL');
    const joined = await joinByInvite(await net.host(), founder.invite, { name: 'two', owner: null }, never);
    assert.is(joined.facts.name, 'two', 'an invite draws nothing');
  }),
);

test(
  'a joiner that asks again has one request, the newer',
  withNet(async (net) => {
    const founder = await founding(net);
    const joiner = await net.host();
    const seen = new Signal<string>();
    const ask = () =>
      joinByApproval(joiner, founder.found, { name: 'x', owner: null }, (code) => seen.put(code), never);
    const first = refused(ask());
    await seen.next();
    const second = ask();
    const code = await seen.next();
    assert.is((await first).code, 'SF_UNREACHABLE');
    assert.equal(
      founder.server.pending().map((join) => join.code),
      [code],
    );
    await founder.server.approve(code, async (who) => founder.admit(who));
    assert.is((await second).facts.name, 'x');
  }),
);

test(
  'a nonce that is not the one committed to is refused',
  withNet(async (net) => {
    const founder = await founding(net);
    const stream = await (await connect(await net.host(), founder.host)).newStream(JOIN_PROTOCOL);
    const channel = new FrameChannel(stream);
    const request = { type: 'request', mesh: founder.mesh, name: 'x', owner: null };
    await channel.write(frameOf({ ...request, commitment: commitNonce('0'.repeat(32)) } as { type: string }));
    assert.match(Buffer.from(await channel.expect()).toString(), /"nonce"/);
    await channel.write(frameOf({ type: 'reveal', nonce: '1'.repeat(32) } as { type: string }));
    assert.match(Buffer.from(await channel.expect()).toString(), /SF_NOT_PROVED/);
    assert.equal(founder.server.pending(), []);
  }),
);

test(
  'a stranger with a request that waits may stay past the bound of strangers; one without may not',
  withNet(async (net) => {
    const founder = await founding(net, { strangerMs: 300, pendingMs: 1_500 });
    const patient = await net.host();
    const silent = await net.host();
    const closed = (of: typeof patient): Promise<number> => {
      const began = Date.now();
      return new Promise((resolve) =>
        of.libp2p.addEventListener('connection:close', () => resolve(Date.now() - began), { once: true }),
      );
    };
    await connect(silent, founder.host);
    const silentFor = closed(silent);
    const seen = new Signal<string>();
    const asked = refused(
      joinByApproval(patient, founder.found, { name: 'x', owner: null }, (code) => seen.put(code), never),
    );
    await seen.next();
    assert.ok((await silentFor) < 1_000);
    assert.is(founder.server.pending().length, 1, 'the patient one still waits');
    assert.is((await asked).code, 'SF_EXPIRED');
  }),
);

test(
  'a revoked machine is told so when it asks to join again',
  withNet(async (net) => {
    const founder = await founding(net);
    const joiner = await net.host();
    net.revoked.add(joiner.peer);
    const error = await refused(joinByInvite(joiner, founder.invite, { name: 'x', owner: null }, never));
    assert.is(error.code, 'SF_REVOKED');
  }),
);

test(
  'a founder says that it is one, and of which mesh; a member does not',
  withNet(async (net) => {
    const founder = await founding(net);
    const asker = await net.host();
    assert.equal(await describe(await connect(asker, founder.host), never), {
      mesh: founder.mesh,
      name: 'home',
    });
    assert.is(await describe(await connect(asker, await net.member()), never), null);
  }),
);

test.run();
