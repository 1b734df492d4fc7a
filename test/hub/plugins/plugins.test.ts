import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { createHubApp } from '../../../hub/api/app.ts';
import type { HubPlugin } from '../../../hub/plugins/plugin.ts';
import { chosenPlugins, PLUGINS } from '../../../hub/plugins/plugins.ts';
import { PLUGIN_REDUCERS } from '../../../ledger/state/plugin-reducers.ts';
import { initialState, REDUCERS } from '../../../ledger/state/state.ts';
import { TestHub } from '../api/hub.ts';

const one: HubPlugin = {
  name: 'tester',
  version: 1,
  events: [],
  routes: (app) => app.get('/v1/tester', (context) => context.json({ here: true })),
};

test('names are the plugins’ own, and each state is found by its name', () => {
  const names = PLUGINS.map(({ name }) => name);
  assert.is(new Set([...names, ...Object.keys(REDUCERS)]).size, names.length + Object.keys(REDUCERS).length);
  assert.equal(
    [...initialState().plugins.keys()],
    PLUGIN_REDUCERS.map(({ name }) => name),
  );
  for (const { name } of PLUGIN_REDUCERS) assert.ok(names.includes(name), name);
});

test('an event is one plugin’s', () => {
  const events = PLUGINS.flatMap((plugin) => plugin.events);
  assert.is(new Set(events).size, events.length);
});

test('each is on unless the config switches it off; one that there is not is refused', () => {
  const two = { ...one, name: 'other' };
  assert.equal(chosenPlugins({}, [one, two]), { on: [one, two], off: [] });
  assert.equal(chosenPlugins({ tester: false, other: true }, [one, two]), { on: [two], off: ['tester'] });
  assert.throws(() => chosenPlugins({ tset: true }, [one]), /there is no plugin tset/);
});

test('routes of one that is switched off say so', async () => {
  const hub = new TestHub();
  const ask = (on: boolean, path: string): Promise<Response> => {
    const app = createHubApp({
      port: hub,
      plugins: on ? { on: [one], off: [] } : { on: [], off: ['tester'] },
    });
    const request = new Request(`http://localhost${path}`, { headers: { host: 'localhost' } });
    return Promise.resolve(app.fetch(request, { by: { kind: 'local', user: 'olga', claimed: true } }));
  };
  assert.equal(await (await ask(true, '/v1/tester')).json(), { here: true });
  for (const path of ['/v1/tester', '/v1/tester/more']) {
    const refused = await ask(false, path);
    assert.is(refused.status, 409);
    assert.match(await refused.text(), /switched off here.*config\.json/);
  }
  await hub.close();
});

test.run();
