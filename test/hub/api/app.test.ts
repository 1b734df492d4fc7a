import { request as httpRequest } from 'node:http';
import { Readable } from 'node:stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createHubApp } from '../../../hub/api/app.ts';
import type { MeshObject, NodeObject, Page, TaskDetail, TaskObject } from '../../../node/api/objects.ts';
import { socketPath } from '../../../node/api/socket.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';
import { requestBytesMax } from '../../../protocol/limits.ts';
import { refused } from '../../refused.ts';
import { peerOf } from '../core/fleet.ts';
import { TestHub } from './hub.ts';

const SPEC = { kind: 'command', argv: ['true'] };

interface Raw {
  status: number;
  body: string;
}

/** A request as any program could send it, past the client. */
function raw(
  hub: TestHub,
  method: string,
  path: string,
  options: { headers?: Record<string, string>; body?: string | Buffer } = {},
): Promise<Raw> {
  return new Promise((resolve, reject) => {
    const sent = httpRequest({
      socketPath: socketPath(hub.dir),
      method,
      path,
      headers: options.headers,
      agent: false,
    });
    sent.once('error', reject);
    sent.once('response', (response) => {
      let body = '';
      response.setEncoding('utf8').on('data', (text: string) => (body += text));
      response.once('end', () => resolve({ status: response.statusCode ?? 0, body }));
      response.once('error', reject);
    });
    sent.end(options.body);
  });
}

const json = (value: unknown): { headers: Record<string, string>; body: string } => ({
  headers: { 'content-type': 'application/json' },
  body: JSON.stringify(value),
});

async function withHub(
  body: (hub: TestHub) => Promise<void>,
  options: { followersMax?: number } = {},
): Promise<void> {
  const hub = await new TestHub().listen(options);
  try {
    await body(hub);
  } finally {
    await hub.close();
  }
}

test('a task is submitted, listed, told about, explained and stopped', () =>
  withHub(async (hub) => {
    const client = hub.client();
    const made = await client.post<TaskObject>('/v1/tasks', { spec: SPEC });
    assert.is(made.state, 'queued');
    const page = await client.get<Page<TaskObject>>('/v1/tasks?state=queued,running');
    assert.equal(
      page.items.map((task) => task.id),
      [made.id],
    );
    assert.is(page.next, null);
    const why = await client.get<{ reasons: string[] }>(`/v1/tasks/${made.id}/why`);
    assert.ok(why.reasons.length > 0);
    const stopped = await client.post<TaskDetail>(`/v1/tasks/${made.id}/stop`);
    assert.is(stopped.state, 'cancelled');
    const history = await client.get<Page<{ type: string }>>(`/v1/tasks/${made.id}/history`);
    assert.is(history.items[0]?.type, 'task.submitted');
  }));

test('tasks of a batch are taken all, or none where something is wrong with one, which is named', () =>
  withHub(async (hub) => {
    const client = hub.client();
    const listed = async (): Promise<string[]> =>
      (await client.get<Page<TaskObject>>('/v1/tasks')).items.map(({ id }) => id);
    const wrong = [{ spec: SPEC }, { spec: { ...SPEC, on: 'nobody' } }];
    assert.is((await refused(client.post('/v1/batches', { items: wrong }))).code, 'SF_NOT_FOUND');
    assert.equal(await listed(), []);
    const items = [
      { spec: SPEC, name: 'first' },
      { spec: SPEC, after: ['first'] },
    ];
    const made = await client.post<Page<TaskObject>>('/v1/batches', { items });
    assert.equal(await listed(), made.items.map(({ id }) => id).reverse());
    assert.is((await refused(client.post('/v1/batches', { items: [] }))).code, 'SF_USAGE');
  }));

test('who asks is the claimed user of the socket, and the correlation id of the request is carried', () =>
  withHub(async (hub) => {
    const headers = { 'superfleet-user': encodeURIComponent('zoë'), 'superfleet-correlation': 'ci-17' };
    const { status } = await raw(hub, 'POST', '/v1/tasks', {
      headers: { ...json({}).headers, ...headers },
      body: JSON.stringify({ spec: SPEC }),
    });
    assert.is(status, 201);
    const asked = hub.asked.at(-1);
    assert.equal(asked?.by, { kind: 'local', user: 'zoë', claimed: true });
    assert.is(asked?.correlation, 'ci-17');
    assert.is((await raw(hub, 'GET', '/v1/status', { headers: { 'superfleet-user': '%00' } })).status, 400);
    assert.is(
      (await raw(hub, 'GET', '/v1/status', { headers: { 'superfleet-correlation': 'a b' } })).status,
      400,
    );
  }));

test('a web page is refused whatever it asks', () =>
  withHub(async (hub) => {
    for (const headers of [
      { origin: 'http://evil.example' },
      { origin: 'null' },
      { 'sec-fetch-site': 'cross-site' },
      { host: 'evil.example' },
      { host: 'localhost.evil.example' },
    ]) {
      const answer = await raw(hub, 'GET', '/v1/status', { headers });
      assert.is(answer.status, 403, JSON.stringify(headers));
      assert.is(JSON.parse(answer.body).error.code, 'SF_REFUSED');
    }
    assert.is((await raw(hub, 'GET', '/v1/status', { headers: { host: 'localhost:80' } })).status, 200);
  }));

test('bad bodies are errors that name the field, what was expected and what it got', () =>
  withHub(async (hub) => {
    const code = (answer: Raw): string => `${answer.status} ${JSON.parse(answer.body).error.code}`;
    assert.is(code(await raw(hub, 'POST', '/v1/tasks', { body: '{}' })), '400 SF_USAGE');
    const half = await raw(hub, 'POST', '/v1/tasks', { ...json({}), body: '{"spec":' });
    assert.is(code(half), '400 SF_USAGE');
    const unknown = await raw(hub, 'POST', '/v1/tasks', json({ spec: { ...SPEC, colour: 'red' } }));
    assert.is(code(unknown), '400 SF_USAGE');
    assert.match(JSON.parse(unknown.body).error.message, /colour/);
    const empty = JSON.parse(
      (await raw(hub, 'POST', '/v1/tasks', json({ spec: { ...SPEC, argv: [] } }))).body,
    );
    assert.match(empty.error.message, /spec\.argv/);
    assert.is(empty.error.got, '[]');
    const huge = await raw(hub, 'POST', '/v1/tasks', {
      ...json({}),
      body: `"${'x'.repeat(requestBytesMax)}"`,
    });
    assert.is(code(huge), '400 SF_USAGE');
    assert.is(code(await raw(hub, 'GET', '/v1/tasks?limit=0')), '400 SF_USAGE');
    assert.is(code(await raw(hub, 'GET', '/v1/tasks?colour=red')), '400 SF_USAGE');
    assert.is(code(await raw(hub, 'GET', '/v1/tasks/..%2f..')), '400 SF_USAGE');
    assert.is(code(await raw(hub, 'GET', '/v1/tasks/aaaaaaaaaaaa')), '404 SF_NOT_FOUND');
    assert.is(code(await raw(hub, 'GET', '/v2/tasks')), '404 SF_NOT_FOUND');
    assert.is((await raw(hub, 'GET', '/v1/status')).status, 200, 'everyone else is still served');
  }));

test('blobs go up and come down as they were', () =>
  withHub(async (hub) => {
    const client = hub.client();
    const bytes = Buffer.alloc(3 * 1024 * 1024 + 17, 'abc');
    const pieces = Readable.from([bytes.subarray(0, 1000), bytes.subarray(1000)]);
    const sent = await client.upload<{ blob: string; bytes: number }>('POST', '/v1/blobs', pieces);
    assert.is(sent.bytes, bytes.length);
    const back: Uint8Array[] = [];
    for await (const chunk of client.bytes(`/v1/blobs/${sent.blob}`)) back.push(chunk);
    assert.ok(Buffer.concat(back).equals(bytes));
    assert.is((await refused(client.get('/v1/blobs/ff'))).code, 'SF_USAGE');
    assert.is((await refused(client.get(`/v1/blobs/${'f'.repeat(64)}`))).code, 'SF_NOT_FOUND');
  }));

test('an upload that is refused in the middle ends with the refusal, not with a broken pipe', () =>
  withHub(async (hub) => {
    hub.blobs.put = async (source) => {
      for await (const _ of source as AsyncIterable<Uint8Array>) {
        throw new SuperfleetError('SF_FULL', 'the store is full');
      }
      throw new Error('no byte came');
    };
    async function* endless(): AsyncGenerator<Uint8Array> {
      for (let at = 0; at < 4096; at++) yield Buffer.alloc(65_536);
    }
    const error = await refused(hub.client().upload('POST', '/v1/blobs', endless()));
    assert.is(error.code, 'SF_FULL');
  }));

test('a download that breaks off is an error, never a short file', () =>
  withHub(async (hub) => {
    const sent = await hub.blobs.put(Buffer.from('whole'));
    hub.blobs.read = async function* () {
      yield Buffer.from('who');
      throw new SuperfleetError('SF_NOT_PROVED', 'the disk changed a chunk');
    };
    const read = async (): Promise<void> => {
      for await (const _ of hub.client().bytes(`/v1/blobs/${sent.blob}`));
    };
    assert.is((await refused(read())).code, 'SF_UNREACHABLE');
  }));

test('a task is watched from its state now to its end, a line each', () =>
  withHub(async (hub) => {
    const member = hub.fleet.join('m1');
    const id = hub.fleet.submit({ checks: [] });
    const states: string[] = [];
    for await (const task of hub.client().lines<TaskDetail>('GET', `/v1/tasks/${id}/watch`)) {
      states.push(task.state);
      if (task.state === 'assigned') hub.fleet.start(member, hub.fleet.running(member));
      if (task.state === 'running') hub.fleet.finish(member, hub.fleet.running(member));
    }
    assert.is(states.at(-1), 'delivered');
    assert.ok(states.includes('running'), states.join(' '));
    assert.is(hub.watchers, 0);
  }));

test('followers are bounded, and a reader that goes away gives its place back', () =>
  withHub(
    async (hub) => {
      const id = hub.fleet.submit();
      const client = hub.client();
      const first = new AbortController();
      const reader = client.lines<TaskDetail>('GET', `/v1/tasks/${id}/watch`, first.signal);
      assert.is((await reader.next()).value?.state, 'queued');
      assert.is((await refused(client.get(`/v1/tasks/${id}/watch`))).code, 'SF_FULL');
      assert.is((await client.get<TaskObject>(`/v1/tasks/${id}`)).id, id, 'what does not follow is served');
      first.abort(new Error('enough'));
      await reader.next().catch(() => {});
      // The server sees the closed connection on its own time: ask until the place is free.
      for (let tries = 0; ; tries++) {
        const again = client.lines<TaskDetail>('GET', `/v1/tasks/${id}/watch`);
        const got = await again.next().catch((thrown: SuperfleetError) => thrown);
        if (!(got instanceof Error)) {
          await again.return(undefined);
          break;
        }
        assert.ok(tries < 2000, 'the place was never given back');
      }
    },
    { followersMax: 1 },
  ));

test('an error before the first byte of a stream keeps its status', () =>
  withHub(async (hub) => {
    const answer = await raw(hub, 'GET', '/v1/tasks/aaaaaaaaaaaa/log?follow=1');
    assert.is(answer.status, 404);
  }));

test('output is followed as it comes', () =>
  withHub(async (hub) => {
    const id = hub.fleet.submit();
    const output = hub.output(id);
    output.write('one');
    let text = '';
    for await (const chunk of hub.client().bytes(`/v1/tasks/${id}/log?follow=1`)) {
      text += Buffer.from(chunk).toString();
      if (text === 'one') output.end('two');
    }
    assert.is(text, 'onetwo');
  }));

test('machines that wait are listed with their code, let in or sent away', () =>
  withHub(async (hub) => {
    hub.fleet.join('m1');
    const waiting = {
      id: peerOf('m2'),
      name: 'm2',
      owner: 'ann',
      roles: [],
      state: 'pending',
      code: '123-456-789',
    };
    const rest = {
      slots: { used: 0, total: 0 },
      models: [],
      tools: {},
      labels: {},
      limits: null,
      policy: null,
      work: null,
      lag: null,
    };
    hub.waiting.push({ ...waiting, ...rest } as NodeObject);
    const client = hub.client();
    const { items } = await client.get<Page<NodeObject>>('/v1/nodes');
    assert.is(items.at(-1)?.code, '123-456-789');
    assert.match(
      (await client.get<MeshObject>('/v1/status')).warnings[0]!,
      /^m2 asks .*approve 123-456-789$/,
    );
    assert.ok(items.some((node) => node.name === 'm1' && node.state === 'online'));
    const node = await client.post<NodeObject>('/v1/joins/123-456-789/approve', { owner: 'ann' });
    assert.is(node.state, 'online');
    assert.is(hub.approved[0]?.owner, 'ann');
    assert.is((await refused(client.post('/v1/joins/999-999-999/reject'))).code, 'SF_NOT_FOUND');
    assert.is((await client.post<NodeObject>('/v1/nodes/m1/drain')).state, 'draining');
    assert.is((await client.post<NodeObject>('/v1/nodes/m1/eligible')).state, 'online');
    await client.post('/v1/nodes/m1/revoke', { reason: 'lost' });
    assert.is((await client.get<NodeObject>(`/v1/nodes/${peerOf('m1')}`)).state, 'revoked');
  }));

test('a secret is taken as bytes, listed by name, and its value comes back nowhere', () =>
  withHub(async (hub) => {
    const client = hub.client();
    await client.upload('PUT', '/v1/secrets/TOKEN', Readable.from([Buffer.from('hunter2')]));
    assert.is(hub.secrets.get('TOKEN'), 'hunter2');
    const list = await raw(hub, 'GET', '/v1/secrets');
    assert.equal(JSON.parse(list.body).items, [{ name: 'TOKEN' }]);
    assert.is((await raw(hub, 'PUT', '/v1/secrets/TOKEN', { body: Buffer.alloc(20_000) })).status, 400);
    assert.is((await raw(hub, 'PUT', '/v1/secrets/TOKEN', { body: '' })).status, 400);
    assert.is((await raw(hub, 'PUT', '/v1/secrets/A=B', { body: 'x' })).status, 400);
    assert.is((await raw(hub, 'DELETE', '/v1/secrets/TOKEN')).status, 200);
    assert.is(hub.secrets.size, 0);
  }));

test('a member that asks through its link has the rights of its roles and no more', async () => {
  const hub = new TestHub();
  const app = createHubApp({ port: hub });
  const by = { kind: 'peer', peer: peerOf('m1') } as const;
  const ask = (method: string, path: string, body?: unknown): Promise<Response> =>
    Promise.resolve(
      app.fetch(
        new Request(`http://localhost${path}`, {
          method,
          headers: { host: 'localhost', 'content-type': 'application/json', 'superfleet-user': 'root' },
          ...(body === undefined ? {} : { body: JSON.stringify(body) }),
        }),
        { by },
      ),
    );
  hub.fleet.join('m1', { roles: ['worker', 'submitter'] });
  assert.is((await ask('GET', '/v1/status')).status, 200);
  assert.is((await ask('POST', '/v1/tasks', { spec: SPEC })).status, 403);
  hub.peerRights = ['view', 'submit'];
  assert.is((await ask('POST', '/v1/tasks', { spec: SPEC })).status, 201);
  assert.equal(hub.asked.at(-1)?.by, by, 'the header does not say who it is');
  assert.is((await ask('POST', '/v1/mesh/pause', {})).status, 403);
  assert.is((await ask('GET', '/v1/ledger/proof?since=1')).status, 200, 'growth says nothing of the entries');
  assert.is((await ask('GET', '/v1/ledger/proof?index=1')).status, 403);
  hub.peerRights = ['view', 'submit', 'operate'];
  assert.is((await ask('PUT', '/v1/secrets/X', {})).status, 403, 'values never come from a peer');
  assert.is((await ask('POST', '/v1/process/stop', {})).status, 403);
  assert.is(hub.stops, 0);
  await hub.close();
});

test('the log is verified with progress, tailed and exported', () =>
  withHub(async (hub) => {
    const client = hub.client();
    const lines: Record<string, unknown>[] = [];
    for await (const line of client.lines<Record<string, unknown>>('POST', '/v1/ledger/verify'))
      lines.push(line);
    assert.match(JSON.stringify(lines.at(-1)), /"report":.*"size":2/);
    const entries: { index: number }[] = [];
    for await (const entry of client.lines<{ index: number }>('GET', '/v1/ledger/entries?from=1'))
      entries.push(entry);
    assert.equal(
      entries.map((entry) => entry.index),
      [1],
    );
    const tail = client.lines<{ type: string }>('GET', '/v1/ledger/entries?from=2&follow=1');
    const next = tail.next();
    hub.fleet.submit();
    assert.is((await next).value?.type, 'task.submitted');
    await tail.return(undefined);
    assert.is((await raw(hub, 'GET', '/v1/ledger/export')).body, 'line one\nline two\n');
  }));

test('a proof is of an entry, of a task or of growth, and nothing else', () =>
  withHub(async (hub) => {
    const proof = async (path: string): Promise<string> => (await raw(hub, 'GET', path)).body;
    assert.is(await proof('/v1/ledger/proof?index=0'), '{"proof of":{"index":0}}\n');
    assert.is(await proof('/v1/ledger/proof?since=2'), '{"proof of":{"since":2}}\n');
    const id = hub.fleet.submit();
    assert.is(await proof(`/v1/tasks/${id}/proof`), `{"proof of":{"task":"${id}"}}\n`);
    for (const query of [
      '',
      '?index=-1',
      '?since=0',
      '?index=1.5',
      '?index=1&since=2',
      '?index=9007199254740992',
    ]) {
      assert.match(await proof(`/v1/ledger/proof${query}`), /SF_USAGE/, query);
    }
  }));

test('a damaged log is told in the last line, with its code', () =>
  withHub(async (hub) => {
    hub.ledger.verify = async () => {
      throw new SuperfleetError('SF_LOG_DAMAGED', 'segment 3, byte 17');
    };
    const read = async (): Promise<void> => {
      for await (const _ of hub.client().lines('POST', '/v1/ledger/verify'));
    };
    const error = await refused(read());
    assert.is(error.code, 'SF_LOG_DAMAGED');
    assert.is(error.exitCode, 5);
  }));

test('stop answers with the pid first and then begins', () =>
  withHub(async (hub) => {
    const { pid } = await hub.client().post<{ pid: number }>('/v1/process/stop');
    assert.is(pid, process.pid);
    await hub.client().get('/v1/process');
    assert.is(hub.stops, 1);
  }));

test('nobody on the socket is said with what to type', async () => {
  const hub = new TestHub();
  const error = await refused(hub.client().get('/v1/status'));
  assert.is(error.code, 'SF_UNREACHABLE');
  assert.is(error.exitCode, 3);
  assert.match(error.hint ?? '', /mesh-hub start/);
  await hub.close();
});

test.run();
