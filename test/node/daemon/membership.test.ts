import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { Membership, type SmallFiles } from '../../../node/daemon/membership.ts';
import { issueCertificate } from '../../../protocol/certificate.ts';
import { encodeEnvelope } from '../../../protocol/dsse.ts';
import { asSuperfleetError } from '../../../protocol/errors.ts';
import { meshIdOfLine } from '../../../protocol/genesis.ts';
import { publicKeyToBase64 } from '../../../protocol/keys.ts';
import { signRoster } from '../../../protocol/roster.ts';
import { keyOf } from '../../protocol/samples.ts';

const [log, founder, ada, bob] = [keyOf('log'), keyOf('founder'), keyOf('ada'), keyOf('bob')];
const genesis = JSON.stringify({
  index: 0,
  epoch: 1,
  time: 1,
  type: 'mesh.created',
  body: {
    format: 1,
    name: 'home',
    founder: founder.peer,
    logKey: publicKeyToBase64(log.publicKey),
    recoveryKey: publicKeyToBase64(founder.publicKey),
  },
});
const mesh = meshIdOfLine(genesis);
const certificate = issueCertificate(
  {
    mesh,
    peer: ada.peer,
    name: 'ada',
    owner: 'olga',
    roles: ['worker'],
    labels: {},
    epoch: 1,
    index: 2,
    issuedAt: 1,
  },
  log,
);

const roster = (version: number, members: string[], revoked: string[] = [], signer = log): Buffer => {
  const listed = members.map((peer) => ({ peer, name: `n${peer.slice(-8)}`, owner: 'olga', roles: [] }));
  return Buffer.from(
    encodeEnvelope(signRoster({ mesh, epoch: 1, version, members: listed, revoked }, signer)),
  );
};

const inFolder = (body: (files: SmallFiles) => Promise<void>) => async (): Promise<void> => {
  const folder = mkdtempSync(join(tmpdir(), 'sf-membership-'));
  try {
    await body({
      membership: join(folder, 'membership.json'),
      roster: join(folder, 'roster.json'),
      write: (path, text) => writeFile(path, text),
      remove: (path) => rm(path, { force: true }),
    });
  } finally {
    rmSync(folder, { recursive: true });
  }
};

const admitted = (files: SmallFiles): Promise<Membership> =>
  Membership.admit({ genesis, certificate, addresses: [] }, ada.peer, files);

test(
  'a roster from before a revocation does not bring the revoked back, after a restart either',
  inFolder(async (files) => {
    const membership = await admitted(files);
    await membership.takeRoster(roster(5, [ada.peer, bob.peer]));
    assert.is(membership.isMember(bob.peer), true);
    await membership.takeRoster(roster(9, [ada.peer], [bob.peer]));
    assert.is(await membership.takeRoster(roster(5, [ada.peer, bob.peer])), 9);
    const again = await Membership.load(ada.peer, files);
    for (const one of [membership, again!]) {
      assert.is(one.isMember(bob.peer), false);
      assert.is(one.isRevoked(bob.peer), true);
    }
  }),
);

test(
  'a roster signed by another key is refused and changes nothing',
  inFolder(async (files) => {
    const membership = await admitted(files);
    const code = await membership.takeRoster(roster(9, [bob.peer], [], bob)).then(
      () => 'taken',
      (error: unknown) => asSuperfleetError(error).code,
    );
    assert.is(code, 'SF_NOT_PROVED');
    assert.is(membership.isMember(bob.peer), false);
  }),
);

test(
  'a roster that the disk damaged lets nobody in, and a machine starts with it',
  inFolder(async (files) => {
    const membership = await admitted(files);
    await membership.takeRoster(roster(5, [ada.peer, bob.peer]));
    writeFileSync(files.roster, '{"payload":"');
    const again = await Membership.load(ada.peer, files);
    assert.is(again!.rosterVersion, 0, 'so it is fetched again');
    assert.is(again!.isMember(bob.peer), false);
    assert.is(again!.isMember(founder.peer), true);
  }),
);

test(
  'a membership that the disk damaged, or of another identity, is refused in words',
  inFolder(async (files) => {
    await admitted(files);
    const code = (peer: string): Promise<string> =>
      Membership.load(peer, files).then(
        () => 'loaded',
        (error: unknown) => asSuperfleetError(error).code,
      );
    assert.is(await code(bob.peer), 'SF_NOT_PROVED');
    writeFileSync(files.membership, '{"format":1,');
    assert.is(await code(ada.peer), 'SF_FOLDER');
  }),
);

test.run();
