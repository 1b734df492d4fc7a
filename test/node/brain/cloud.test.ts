/** What a provider says when it refuses: it may repeat the key that it was sent, whole or cut where its words are. */
import { mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { CloudBrain } from '../../../node/brain/cloud.ts';
import { BrainError } from '../../../node/brain/types.ts';
import { ScriptedOpenAI } from '../../model-server/scripted-openai.ts';
import { all, request } from './support.ts';

const MODEL = 'large:400b';
const folder = mkdtempSync(join(tmpdir(), 'sf-'));
const server = await new ScriptedOpenAI([MODEL]).listen();
test.after(async () => {
  await server.close();
  rmSync(folder, { recursive: true, force: true });
});

async function refused(key: string, message: string): Promise<string> {
  const keyFile = join(folder, 'key');
  writeFileSync(keyFile, key, { mode: 0o600 });
  server.script = () => [{ do: 'refuse', status: 401, message }];
  const models = [{ name: MODEL, contextTokens: 8_192, tools: true }];
  const cloud = new CloudBrain({
    name: 'provider',
    url: server.url,
    models,
    keyFile,
    maxTokensField: 'max_tokens',
  });
  const error = await all(cloud, request({ model: MODEL }), AbortSignal.timeout(5_000)).catch(
    (thrown: unknown) => thrown,
  );
  assert.instance(error, BrainError);
  return (error as BrainError).message;
}

test('a key that a provider repeats stands in no message, also where its words are cut in the midst of it', async () => {
  const short = 'sk-0123456789abcdef';
  assert.match(
    await refused(short, `wrong key ${short}; wrong key ${short}.`),
    /401: wrong key \[key\]; wrong key \[key\]\. /,
  );
  const long = Array.from({ length: 200 }, (_, at) => `part${at}.`).join('');
  const told = await refused(long, `wrong key ${long}`);
  assert.match(told, /401: wrong key \[key\]…$/);
  assert.is(await refused('k3y', 'wrong key k3y').then((words) => words.includes('k3y')), false);
});

test.run();
