import { mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { importFaults } from '../../scripts/import-rule.ts';

function tree(files: Record<string, string>): string {
  const root = mkdtempSync(join(tmpdir(), 'import-rule-'));
  for (const room of ['protocol', 'ledger', 'node', 'hub']) mkdirSync(join(root, room));
  for (const [path, text] of Object.entries(files)) {
    mkdirSync(dirname(join(root, path)), { recursive: true });
    writeFileSync(join(root, path), text);
  }
  return root;
}

function faultsOf(files: Record<string, string>): string[] {
  const root = tree(files);
  try {
    return importFaults(root);
  } finally {
    rmSync(root, { recursive: true });
  }
}

test('the source of this project keeps the one direction of imports', () => {
  assert.equal(importFaults(join(import.meta.dirname, '../..')), []);
});

test('an import that runs back is named with both ends', () => {
  const faults = faultsOf({ 'protocol/a.ts': "import { b } from '../ledger/b.ts';\n", 'ledger/b.ts': '' });
  assert.equal(faults.length, 1);
  assert.match(faults[0]!, /protocol\/a\.ts imports ledger\/b\.ts/);
});

test('a lazy import that runs back is found too', () => {
  assert.is(faultsOf({ 'node/a.ts': "await import('../hub/b.ts');\n", 'hub/b.ts': '' }).length, 1);
});

test('nobody imports a cli, and no room imports tests or scripts', () => {
  assert.is(faultsOf({ 'hub/a.ts': "import './cli.ts';\n", 'hub/cli.ts': '' }).length, 1);
  assert.is(faultsOf({ 'node/a.js': "import './cli.js';\n", 'node/cli.js': '' }).length, 1);
  assert.is(faultsOf({ 'hub/a.ts': "import '../test/x.ts';\n" }).length, 1);
});

test('a core without IO may not import files, sockets or processes', () => {
  assert.is(faultsOf({ 'hub/core/a.ts': "import { readFileSync } from 'node:fs';\n" }).length, 1);
  assert.is(faultsOf({ 'hub/core/a.ts': "import { createHash } from 'node:crypto';\n" }).length, 0);
});

test.run();
