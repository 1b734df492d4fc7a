import { mkdtempSync, readFileSync, rmSync, statSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { SecretStore, secretsFile } from '../../../hub/daemon/secrets.ts';
import { SuperfleetError } from '../../../protocol/errors.ts';

const inFolder = (body: (path: string) => Promise<void>) => async (): Promise<void> => {
  const folder = mkdtempSync(join(tmpdir(), 'sf-secrets-'));
  try {
    await body(secretsFile(join(folder, 'mesh')));
  } finally {
    rmSync(folder, { recursive: true });
  }
};

test(
  'a value is kept in a file of its owner alone, and is there after a restart',
  inFolder(async (path) => {
    const store = await SecretStore.open(path);
    await store.set('TOKEN', Buffer.from('canary\n'));
    assert.is(statSync(path).mode & 0o777, 0o600);
    assert.is((await SecretStore.open(path)).values.get('TOKEN'), 'canary');
  }),
);

test(
  'what the log does not know is let go at the start: set and not logged, or removed in the log only',
  inFolder(async (path) => {
    const store = await SecretStore.open(path);
    await store.set('LOGGED', Buffer.from('kept'));
    await store.set('UNLOGGED', Buffer.from('canary'));
    const again = await SecretStore.open(path);
    await again.retain(new Set(['LOGGED', 'NEVER_SET']));
    assert.equal([...again.values], [['LOGGED', 'kept']]);
    assert.not.match(readFileSync(path, 'utf8'), /canary/);
  }),
);

test(
  'values that were handed out do not change with what is set later',
  inFolder(async (path) => {
    const store = await SecretStore.open(path);
    const before = store.values;
    await store.set('TOKEN', Buffer.from('canary'));
    assert.is(before.size, 0);
  }),
);

test(
  'a damaged file is refused without a word of what is in it',
  inFolder(async (path) => {
    await SecretStore.open(path);
    writeFileSync(path, '{"format":1,"secrets":{"TOKEN":"canary"');
    const error = await SecretStore.open(path).then(
      () => null,
      (thrown: unknown) => thrown,
    );
    assert.instance(error, SuperfleetError);
    assert.not.match(JSON.stringify((error as SuperfleetError).toJSON()), /canary/);
    assert.is((error as SuperfleetError).cause, undefined);
  }),
);

test.run();
