#!/usr/bin/env node
import { refusal } from './node-version.js';

// Runs what was built of the node, or says in a sentence why it can't.
const refused = refusal('mesh-node', process.versions.node, process.argv.slice(2));
if (refused === null) {
  await import('../../dist/hub/mesh-node.js');
} else {
  process.stderr.write(`${refused}\n`);
  process.exitCode = 6;
}
