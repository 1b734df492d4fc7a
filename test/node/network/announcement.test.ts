import { encode } from 'dns-packet';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { readAnnouncement, SERVICE_TAG } from '../../../node/network/announcement.ts';
import { passedOverLine } from '../../../node/network/discovery.ts';

const PEER = '12D3KooWBhvsEjaQnV8zC1fFwFxxYMbGJ6WrAbiShTLuXkYxXMEm';
const ptr = { type: 'PTR', name: SERVICE_TAG, data: `x.${SERVICE_TAG}` } as const;
const txt = (data: string) => ({ type: 'TXT', name: `x.${SERVICE_TAG}`, data }) as const;
const response = (...answers: Parameters<typeof encode>[0]['answers'] & object) =>
  readAnnouncement(encode({ type: 'response', answers }));

test('an announcement names a peer and its addresses; questions and other programs are told apart', () => {
  assert.equal(response(ptr, txt(`dnsaddr=/ip4/10.0.0.1/tcp/4701/p2p/${PEER}`)), {
    kind: 'announced',
    peer: PEER,
    addresses: [`/ip4/10.0.0.1/tcp/4701/p2p/${PEER}`],
  });
  assert.equal(response({ type: 'PTR', name: '_ipp._tcp.local', data: 'printer._ipp._tcp.local' }), {
    kind: 'another-program',
  });
  const question = { type: 'PTR', name: SERVICE_TAG } as const;
  assert.equal(readAnnouncement(encode({ type: 'query', questions: [question] })), { kind: 'question' });
});

test('one of ours that names no peer, and bytes that are no DNS, are malformed', () => {
  const malformed = { kind: 'malformed' };
  assert.equal(response(ptr), malformed);
  assert.equal(response(ptr, txt('dnsaddr=/ip4/10.0.0.1/tcp/4701')), malformed);
  assert.equal(response(ptr, txt('dnsaddr=/ip4/10.0.0.1/tcp/4701/p2p/nobody')), malformed);
  for (const bytes of ['', 'x', '\xff'.repeat(40)]) {
    assert.equal(readAnnouncement(Buffer.from(bytes, 'latin1')), malformed);
  }
});

test('why an announcement was passed over is said in one line', () => {
  const mesh = { id: 'b'.repeat(64), name: 'lab' };
  const of = { who: PEER, addresses: ['/ip4/10.0.0.2/tcp/1'], mesh: null };
  assert.is(
    passedOverLine({ ...of, why: 'another-mesh', mesh }),
    `${PEER} at /ip4/10.0.0.2/tcp/1: the founder of another mesh, lab (${mesh.id})`,
  );
  assert.match(
    passedOverLine({ ...of, why: 'malformed', who: '10.0.0.3', addresses: [] }),
    /^10\.0\.0\.3: .*cannot be read$/,
  );
  assert.match(passedOverLine({ ...of, why: 'own' }), /this machine itself$/);
});

test.run();
