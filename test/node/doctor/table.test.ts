import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import {
  type Finding,
  isAble,
  obstacle,
  renderBriefly,
  renderFindings,
  verdict,
} from '../../../node/doctor/finding.ts';
import { CHECKS, findingsOf } from '../../../node/doctor/table.ts';
import { heardText } from '../../../node/doctor/table-network.ts';
import { ERROR_CODES } from '../../../protocol/errors.ts';
import { EXAMPLES, fine, heard, home } from './examples.ts';

const IDS = CHECKS.flatMap(({ lacks }) => lacks);
const of = (id: string): Finding | undefined =>
  findingsOf({ ...fine, ...EXAMPLES[id] }).find(({ finding }) => finding === id);

test('on a machine where nothing lacks every check is ok', () => {
  const findings = findingsOf(fine);
  assert.equal(
    findings.filter(({ status }) => status !== 'ok'),
    [],
  );
  assert.is(isAble(findings), true);
  assert.is(renderBriefly(findings).split('\n').length, 1, 'all that is fine is one line');
});

test('each finding of the table has facts that lead to it, and to no other lack but what follows from it', () => {
  assert.equal(Object.keys(EXAMPLES).sort(), [...IDS].sort());
  for (const id of IDS) {
    const lacks = findingsOf({ ...fine, ...EXAMPLES[id] }).filter(({ status }) => status !== 'ok');
    assert.equal(
      lacks.map(({ finding }) => finding),
      [id],
      id,
    );
  }
});

test('every lack says what, why and how; what stops joining has the code that a join ends with', () => {
  for (const id of IDS) {
    const finding = of(id);
    assert.ok(finding, id);
    assert.ok(finding.what !== '' && finding.why !== '' && (finding.how ?? '') !== '', id);
    assert.is(finding.status === 'fail', finding.stops !== null, id);
    assert.is(finding.stops === 'joining', finding.code !== null, id);
    if (finding.code !== null) assert.ok(finding.code in ERROR_CODES);
  }
});

test('what keeps tasks from running does not keep a machine from joining', () => {
  for (const id of IDS.filter((one) => one.startsWith('sandbox/') || one.startsWith('git/'))) {
    const findings = findingsOf({ ...fine, ...EXAMPLES[id] });
    assert.is(isAble(findings), false, id);
    assert.is(obstacle(findings), null, id);
    assert.match(verdict(findings), /may join/);
  }
  assert.is(obstacle(findingsOf({ ...fine, ...EXAMPLES['disk/full'] }))?.code, 'SF_DISK_FULL');
});

test('one address of the founder that answers is enough', () => {
  const dead = { place: '10.0.0.1:4701', port: 4701, outcome: 'filtered', mesh: null } as const;
  const founder = {
    mesh: null,
    places: [dead, { ...dead, place: '10.0.0.2:4701', outcome: 'answers' as const }],
  };
  const [found] = findingsOf({ ...fine, founder }).filter(({ check }) => check === 'founder');
  assert.is(found?.what, '10.0.0.2:4701 answers');
  const loopback = { ...dead, place: '/ip4/127.0.0.1/tcp/4701', outcome: 'refused' as const };
  const lacks = findingsOf({ ...fine, founder: { mesh: null, places: [loopback, dead] } });
  assert.equal(
    lacks.filter(({ check }) => check === 'founder').map(({ finding }) => finding),
    ['founder/filtered'],
    'that nothing of it runs on this machine is no news',
  );
});

test('the lines that open a firewall are those of what manages it', () => {
  const how = (id: string, firewall = EXAMPLES[id]?.firewall): string =>
    findingsOf({ ...fine, ...EXAMPLES[id], ...(firewall === undefined ? {} : { firewall }) }).find(
      ({ finding }) => finding === id,
    )?.how ?? '';
  assert.is(how('firewall/founder-in'), 'sudo nft insert rule inet filter input tcp dport 4701 accept');
  assert.is(how('firewall/mdns-in'), 'sudo iptables -I INPUT -p udp --dport 5353 -j ACCEPT');
  const { ruleset } = EXAMPLES['firewall/founder-in']!.firewall!;
  assert.is(how('firewall/founder-in', { manager: 'ufw', ruleset }), 'sudo ufw allow 4701/tcp');
  assert.is(
    how('firewall/founder-in', { manager: 'firewalld', ruleset }),
    'sudo firewall-cmd --permanent --add-port=4701/tcp && sudo firewall-cmd --reload',
  );
  assert.match(how('multicast/not-heard'), /^sudo ufw allow 5353\/udp$/m);
  assert.match(how('multicast/not-heard'), /--founder ADDRESS/);
});

test('mDNS tells whom it heard and why it refused', () => {
  assert.is(heardText([]), 'heard nobody');
  assert.is(
    heardText([
      heard('founder', '10.0.0.1', home),
      heard('another-mesh', '10.0.0.2', { id: 'b'.repeat(64), name: 'lab' }),
      heard('malformed', '10.0.0.3'),
      heard('own', '10.0.0.4'),
      heard('another-program', '10.0.0.5'),
    ]),
    'heard 10.0.0.1 (founder of home), 10.0.0.2 (refused: founder of another mesh, lab), ' +
      '10.0.0.3 (refused: cannot be read), 10.0.0.4 (this machine itself), 1 of other programs',
  );
});

test('docs/troubleshooting.md lists each finding with its remedy, as the table has it', () => {
  const path = new URL('../../../docs/troubleshooting.md', import.meta.url);
  const text = readFileSync(path, 'utf8');
  for (const id of IDS) {
    const { what, why, how, stops } = of(id)!;
    const section = text.split(/^### /m).find((part) => part.startsWith(`\`${id}\`\n`));
    assert.ok(section, `no section for ${id}`);
    assert.ok(section.includes(`Found: ${firstLine(what)}`), `${id}: ${what}`);
    assert.ok(section.includes(`Why: ${why}.`), `${id}: ${why}`);
    assert.ok(section.includes(STOPS[stops ?? 'nothing']), `${id}: stops ${stops}`);
    for (const line of (how ?? '').split('\n')) assert.ok(section.includes(line), `${id}: ${line}`);
  }
  const named = [...text.matchAll(/^### `(.*)`$/gm)].map(([, id]) => id);
  assert.equal(named, IDS, 'and none besides, in the order of the table');
});

const STOPS = {
  tasks: 'No tasks run here',
  joining: 'Joining does not work',
  nothing: 'Everything goes on',
} as const;
const firstLine = (text: string): string => text.split('\n')[0] ?? '';

test('a person reads what, why and how under each lack, and one line for what is fine', () => {
  const text = renderFindings(findingsOf({ ...fine, ...EXAMPLES['git/old'] }));
  assert.match(text, /^ok {4}disk {7}100\.0 GiB free$/m);
  assert.match(text, /^FAIL {2}git {8}git 2\.30\.2 is too old\n +why: tasks on.*\n +how: upgrade/m);
});

test.run();
