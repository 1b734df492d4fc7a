import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { pino } from 'pino';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { ConfigFile, checkConfig, readConfig } from '../../../node/config.ts';
import { LentModelServers } from '../../../node/daemon/lent-models.ts';

/** A machine's config on a real disk, and the model servers that its owner lends. Nothing listens on these ports. */
async function lending(body: (lent: LentModelServers, file: ConfigFile, path: string) => Promise<void>) {
  const root = mkdtempSync(join(tmpdir(), 'sf-lent-'));
  try {
    const path = join(root, 'config.json');
    const file = new ConfigFile(path, checkConfig({}));
    const machine = {
      get config() {
        return file.config;
      },
      configure: file.change.bind(file),
      logger: pino({ level: 'silent' }),
    };
    await body(new LentModelServers(machine), file, path);
  } finally {
    rmSync(root, { recursive: true });
  }
}
const url = (port: number): string => `http://127.0.0.1:${port}`;

test('servers that are added, removed and renamed beside at the same time are all as they were told', () =>
  lending(async (lent, file, path) => {
    await Promise.all([lent.add(url(1)), lent.add(url(2)), file.change({ name: 'attic' }), lent.add(url(1))]);
    assert.equal([...file.config.models].sort(), [url(1), url(2)]);
    assert.is(file.config.name, 'attic');
    await Promise.all([lent.remove(url(1)), lent.add(url(3)), lent.remove(url(2))]);
    assert.equal(file.config.models, [url(3)]);
    assert.equal(await readConfig(path), file.config, 'and so it is on the disk');
  }));

test('no more than sixteen are lent, however many are added at once; what is refused changes nothing', () =>
  lending(async (lent, file) => {
    const asked = Array.from({ length: 20 }, (_, n) => lent.add(url(n + 1)));
    const ended = await Promise.allSettled(asked);
    assert.is(ended.filter(({ status }) => status === 'fulfilled').length, 16);
    assert.is(file.config.models.length, 16);
  }));

test.run();
