import { BlockList } from 'node:net';
import fc from 'fast-check';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { isPublicAddress, plainAddress } from '../../../node/environment/addresses.ts';
import { admitAddresses, admitHost, splitAuthority } from '../../../node/environment/admission.ts';

const refused: Record<string, string[]> = {
  'this host': ['0.0.0.0', '0.1.2.3', '::'],
  loopback: ['127.0.0.1', '127.255.255.254', '::1', '0:0:0:0:0:0:0:1'],
  private: [
    '10.0.0.1',
    '10.255.255.255',
    '172.16.0.1',
    '172.31.255.255',
    '192.168.0.1',
    'fc00::1',
    'fdff::1',
  ],
  'link-local': ['169.254.0.1', '169.254.169.254', 'fe80::1', 'febf::1', 'fe80::1%lo', '2001:4860::1%1'],
  'carrier-grade NAT': ['100.64.0.1', '100.127.255.255'],
  multicast: ['224.0.0.1', '239.255.255.255', 'ff02::1', 'ff0e::1'],
  broadcast: ['255.255.255.255', '240.0.0.1'],
  documentation: ['192.0.2.1', '198.51.100.1', '203.0.113.1', '2001:db8::1', '3fff::1'],
  benchmarking: ['198.18.0.1', '198.19.255.255', '2001:2::1'],
  mapped: ['::ffff:127.0.0.1', '::ffff:8.8.8.8', '::ffff:7f00:1', '::8.8.8.8', '::ffff:0:8.8.8.8'],
  NAT64: ['64:ff9b::8.8.8.8', '64:ff9b::7f00:1', '64:ff9b:1::1'],
  'tunnels of IPv4': ['2002:7f00:1::', '2002:a00:1::1', '2001:0:1::1', '192.88.99.1'],
  'not delegated': ['4000::1', '100::1', '5f00::1', 'fec0::1'],
  'no address': [
    '',
    'localhost',
    '1.2.3',
    '0x7f.0.0.1',
    '127.1',
    '[::1]',
    '8.8.8.8 ',
    '8.8.8.8:80',
    '2130706433',
  ],
};
for (const [kind, addresses] of Object.entries(refused)) {
  test(`${kind} is not public`, () => {
    for (const address of addresses) assert.not(isPublicAddress(address), address);
  });
}

test('what lies beside those ranges is public', () => {
  for (const address of [
    '8.8.8.8',
    '9.255.255.255',
    '11.0.0.0',
    '100.63.255.255',
    '100.128.0.0',
    '126.255.255.255',
    '128.0.0.0',
    '169.253.255.255',
    '172.15.255.255',
    '172.32.0.0',
    '192.167.255.255',
    '192.169.0.0',
    '198.17.255.255',
    '198.20.0.0',
    '223.255.255.255',
    '2001:4860:4860::8888',
    '2606:4700::1',
    '2a00::1',
    '2003::1',
  ])
    assert.ok(isPublicAddress(address), address);
});

test('however an IPv6 address is written, the answer and its plain form are the same', () => {
  const word = fc.oneof(
    fc.integer({ min: 0, max: 0xffff }),
    fc.constantFrom(0, 0x2001, 0x2002, 0xdb8, 0xff9b),
  );
  fc.assert(
    fc.property(fc.array(word, { minLength: 8, maxLength: 8 }), (words) => {
      const long = words.map((each) => each.toString(16).padStart(4, '0').toUpperCase()).join(':');
      const short = plainAddress(long) ?? '';
      assert.is(plainAddress(short), short);
      assert.is(isPublicAddress(long), isPublicAddress(short));
      const list = new BlockList();
      list.addAddress(short, 'ipv6');
      assert.ok(list.check(long, 'ipv6'));
    }),
    { numRuns: 1000 },
  );
});

test('no address of IPv4 is public in any coat of IPv6', () => {
  fc.assert(
    fc.property(fc.ipV4(), fc.constantFrom('::', '::ffff:', '64:ff9b::', '64:ff9b:1::'), (address, coat) =>
      assert.not(isPublicAddress(`${coat}${address}`)),
    ),
    { numRuns: 500 },
  );
});

const rules = [
  { host: 'a.org' },
  { host: '*.b.org', ports: [8443] },
  { host: 'home.lan', addresses: ['192.168.1.5', 'FD00:0::5'], ports: [80] },
  { host: '2001:4860::1' },
];

test('a host is admitted by its name and port, and told what the owner may allow', () => {
  assert.equal(admitHost(rules, 'A.org.', 443), [rules[0]]);
  assert.equal(admitHost(rules, 'a.org', 80), [rules[0]]);
  assert.equal(admitHost(rules, 'x.b.org', 8443), [rules[1]]);
  assert.equal(admitHost(rules, '[2001:4860:0::1]', 443), [rules[3]]);
  const table: [string, number, string][] = [
    ['b.org', 8443, 'host'],
    ['evil-a.org', 443, 'host'],
    ['a.org.evil.net', 443, 'host'],
    ['127.0.0.1', 80, 'host'],
    ['', 80, 'host'],
    ['a.org', 22, 'port'],
    ['x.b.org', 443, 'port'],
  ];
  for (const [host, port, reason] of table) {
    const refusal = admitHost(rules, host, port);
    assert.ok('reason' in refusal && refusal.reason === reason, `${host}:${port}`);
    assert.match((refusal as { sentence: string }).sentence, /the owner of this machine may allow/);
  }
});

test('of the addresses only public ones are left, and those named with that very host', () => {
  assert.equal(admitAddresses([{ host: 'a.org' }], 'a.org', ['10.0.0.1', '8.8.8.8', '::1']), ['8.8.8.8']);
  assert.equal(admitAddresses([rules[2]!], 'home.lan', ['192.168.1.5', '192.168.1.6', 'fd00::5']), [
    '192.168.1.5',
    'fd00::5',
  ]);
  const refusal = admitAddresses([{ host: 'a.org' }], 'a.org', ['192.168.1.5']);
  assert.ok('reason' in refusal && refusal.reason === 'address');
  assert.match(
    (refusal as { sentence: string }).sentence,
    /192\.168\.1\.5.*naming both the host and the address/,
  );
  assert.is((admitAddresses([], 'a.org', []) as { reason: string }).reason, 'name');
});

test('the target of a CONNECT is a host and a port, or nothing', () => {
  assert.equal(splitAuthority('A.b:443'), { host: 'a.b', port: 443 });
  assert.equal(splitAuthority('[::1]:80'), { host: '::1', port: 80 });
  for (const bad of [
    '',
    'a',
    'a:',
    ':1',
    'a:0',
    'a:65536',
    'a:1e2',
    'a b:1',
    'u@a:1',
    'http://a:1',
    'a:1/x',
    '::1:80',
    'a:1:2',
    'a\n:1',
    '[a]:1',
  ])
    assert.is(splitAuthority(bad), null, bad);
});

test.run();
