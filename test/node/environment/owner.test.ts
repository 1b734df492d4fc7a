import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { checkConfig } from '../../../node/config.ts';
import { allowedHosts, reachable, someRegistry } from '../../../node/environment/owner.ts';

test('a repository reaches what it asks for and the owner allows, by the narrower of the two', () => {
  const cases: [owner: string[], needed: string[], allowed: string[], lacking: string[]][] = [
    [[], ['a.org'], [], ['a.org']],
    [['a.org'], [], [], []],
    [['a.org', 'b.org'], ['a.org'], ['a.org'], []],
    [['*.a.org'], ['x.a.org'], ['x.a.org'], []],
    [['x.a.org'], ['*.a.org'], ['x.a.org'], ['*.a.org']],
    [['*.a.org'], ['*.x.a.org'], ['*.x.a.org'], []],
    [['*.x.a.org'], ['*.a.org'], ['*.x.a.org'], ['*.a.org']],
    [['*.a.org'], ['a.org'], [], ['a.org']],
    [['192.168.1.9'], ['192.168.1.9'], ['192.168.1.9'], []],
  ];
  for (const [owner, needed, allowed, lacking] of cases) {
    const found = reachable(
      owner.map((host) => ({ host })),
      needed,
    );
    const words = `${owner} for ${needed}`;
    assert.equal([found.allowed.map(({ host }) => host), found.lacking], [allowed, lacking], words);
  }
});

test('ports and addresses of the owner stay with a narrower host', () => {
  const owner = [{ host: '*.lan', ports: [4873], addresses: ['192.168.1.9'] }];
  assert.equal(reachable(owner, ['npm.lan']).allowed, [{ ...owner[0], host: 'npm.lan' }]);
});

test('the config is checked, and read as rules', () => {
  const hosts = ['registry.example.org', { host: 'npm.lan', ports: [4873] }];
  const { environment } = checkConfig({ environment: { hosts } });
  assert.equal(allowedHosts(environment), [
    { host: 'registry.example.org' },
    { host: 'npm.lan', ports: [4873] },
  ]);
  for (const [bad, field] of [
    [{ hosts: ['https://a.org'] }, 'environment.hosts.0'],
    [{ hosts: [{ host: 'a.org', ports: [0] }] }, 'environment.hosts.0.ports.0'],
    [{ hosts: [{ host: 'a.org', addresses: ['a.org'] }] }, 'environment.hosts.0.addresses.0'],
    [{ host: [] }, 'environment.host'],
    [{ readOnly: ['opt'] }, 'environment.readOnly.0'],
    [{ readOnly: ['/opt/../etc'] }, 'environment.readOnly.0'],
    [{ readOnly: ['/'] }, 'environment.readOnly.0'],
    [{ readOnly: ['/home'] }, 'environment.readOnly.0'],
    [{ readOnly: ['/var/lib'] }, 'environment.readOnly.0'],
  ] as const) {
    try {
      checkConfig({ environment: bad });
      assert.unreachable();
    } catch (error) {
      assert.match((error as Error).message, `${field}: expected `);
    }
  }
});

test('who asks for the registries of its tools is given what the owner allows, and lacks one where that is nothing', () => {
  const rules = [{ host: 'registry.example.org' }, { host: '*.lan.example', ports: [4873] }];
  assert.equal(reachable(rules, null), { allowed: rules, lacking: [] });
  assert.equal(reachable([], null), { allowed: [], lacking: [someRegistry] });
});

test.run();
