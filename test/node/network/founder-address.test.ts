import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { founderAddresses, parseFounderAddress } from '../../../node/network/founder-address.ts';

test('a founder’s address is a host, a host and port, an IPv6 address, or a TCP multiaddr', () => {
  const at = (host: string, port = 4701, peer: string | null = null) => ({ host, port, peer });
  for (const [text, address] of [
    ['10.0.0.7', at('10.0.0.7')],
    ['box', at('box')],
    ['box.local:99', at('box.local', 99)],
    ['10.0.0.7:99', at('10.0.0.7', 99)],
    ['fd00::1', at('fd00::1')],
    ['[fd00::1]', at('fd00::1')],
    ['[fd00::1]:99', at('fd00::1', 99)],
    ['/ip4/10.0.0.7/tcp/4701/p2p/12D3KooW', at('10.0.0.7', 4701, '12D3KooW')],
    ['/ip6/fd00::1/tcp/1', at('fd00::1', 1)],
    ['/dns4/box.local/tcp/4701', at('box.local')],
  ] as const) {
    assert.equal(parseFounderAddress(text), address, text);
  }
  for (const bad of [
    '',
    '/ip4/10.0.0.7/udp/1',
    '/ip6/10.0.0.7/tcp/1',
    'a:99999',
    'a:0',
    'a b',
    'http://x:1/',
    '10.0.0.777',
    '[10.0.0.7]:1',
    'fe80::1%eth0',
    '-box',
    'box:port',
  ]) {
    assert.is(parseFounderAddress(bad), null, bad);
  }
});

test('it becomes multiaddrs: an address as it is, a name by this machine’s resolver; what is neither is said', async () => {
  assert.equal(await founderAddresses('10.0.0.7:99'), ['/ip4/10.0.0.7/tcp/99']);
  assert.equal(await founderAddresses('fd00::1'), ['/ip6/fd00::1/tcp/4701']);
  assert.ok((await founderAddresses('localhost')).includes('/ip4/127.0.0.1/tcp/4701'));
  for (const [text, code, said] of [
    ['a b', 'SF_USAGE', /no address/],
    ['nobody.invalid', 'SF_UNREACHABLE', /nobody here knows the name nobody\.invalid/],
  ] as const) {
    const fault = await founderAddresses(text).catch((thrown) => thrown);
    assert.is(fault.code, code);
    assert.match(fault.message, said);
  }
});

test.run();
