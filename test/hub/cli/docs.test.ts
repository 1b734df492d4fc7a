import { readFileSync } from 'node:fs';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { hubGrammar } from '../../../hub/cli/command.ts';
import { nodeGrammar } from '../../../node/cli/command.ts';
import { checkConfig } from '../../../node/config.ts';
import { ERROR_CODES } from '../../../protocol/errors.ts';

const text = readFileSync(new URL('../../../docs/cli.md', import.meta.url), 'utf8');

test('docs/cli.md names every command, and every option of task run', () => {
  const hub = hubGrammar('0');
  const commands = [...hub.commands('mesh-hub'), ...nodeGrammar('0').commands('mesh-node')];
  assert.ok(commands.length > 40);
  // The verbs both bins have are told once.
  const told = commands.filter((name) => !/^mesh-node (task|receipt|ledger|proof|memory) /.test(name));
  assert.equal(
    told.filter((name) => !text.includes(`\`${name}`)),
    [],
  );
  assert.equal(
    hub.options('task', 'run').filter((flag) => !text.includes(`\`${flag}`)),
    [],
  );
});

test('docs/cli.md has every field of config.json with its default', () => {
  const table = text.slice(text.indexOf('## `config.json`'), text.indexOf('## `/v1`'));
  for (const [field, value] of Object.entries(checkConfig({}))) {
    const row = table.split('\n').find((line) => line.startsWith('|') && line.includes(`\`${field}\``));
    assert.ok(row, field);
    if (value !== null)
      assert.ok(row.includes(`\`${JSON.stringify(value)}\``), `${field}: ${JSON.stringify(value)}`);
  }
});

test('docs/cli.md has the registry of error codes as it is', () => {
  for (const [code, { exit, status, meaning }] of Object.entries(ERROR_CODES)) {
    assert.ok(text.includes(`| \`${code}\` | ${exit} | ${status} | ${meaning} |`), code);
  }
});

test.run();
