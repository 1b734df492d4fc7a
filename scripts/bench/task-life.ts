import { hash } from 'node:crypto';
import type { LogEvent } from '../../ledger/lines/events.ts';
import { peerIdFromPublicKey } from '../../protocol/keys.ts';
import { type CommandSpec, commandSpec } from '../../protocol/task.ts';

/** What a founder logs of one task that goes well, in order; bodies as long as those of a real mesh, 500 B a line on average. */
export const LIFE_ENTRIES = 8;

const MEMBERS = 12;
const BASE32 = 'abcdefghijklmnopqrstuvwxyz234567';
const hex = (text: string): string => hash('sha256', text, 'hex');

/** Peer ids of the machines that work. */
export const MEMBER_PEERS: readonly string[] = Array.from({ length: MEMBERS }, (_, n) =>
  peerIdFromPublicKey(hash('sha256', `member ${n}`, 'buffer')),
);

const SPEC: CommandSpec = commandSpec.parse({
  kind: 'command',
  argv: ['npm', 'run', 'codemod', '--', '--from', 'callbacks', '--to', 'promises'],
  checks: [
    'npm ci --ignore-scripts --no-audit --no-fund',
    'npm run lint -- --max-warnings=0',
    'npm test -- --reporter=dot packages/server',
  ],
  checkFiles: ['packages/server/test/**', 'test/fixtures/**'],
  env: { CI: '1', NODE_ENV: 'test' },
  artifacts: ['reports/*.xml'],
  labels: { arch: 'x64' },
  tools: { node: '>=22', git: '*' },
  repository: {
    id: hex('repository').slice(0, 40),
    name: 'server',
    ref: 'main',
    base: hex('base').slice(0, 40),
  },
});

/** The id of the n-th task. */
export function taskIdOf(n: number): string {
  const digest = Buffer.from(hex(`task ${n}`), 'hex');
  return Array.from(digest.subarray(0, 12), (byte) => BASE32[byte & 31]).join('');
}

/** The events of the n-th task, `LIFE_ENTRIES` of them. */
export function taskLife(n: number): LogEvent[] {
  const task = taskIdOf(n);
  const correlation = `cli-${hex(`correlation ${n}`).slice(0, 16)}`;
  const receipt = hex(`receipt ${n}`);
  const verification = hex(`verification ${n}`);
  const commit = hex(`commit ${n}`).slice(0, 40);
  const executor = MEMBER_PEERS[n % MEMBERS]!;
  const verifier = MEMBER_PEERS[(n + 1 + (n % (MEMBERS - 1))) % MEMBERS]!;
  const blob = (what: string, bytes: number) => ({
    blob: hex(`${what} ${n}`),
    bytes,
    sha256: hex(`${what} bytes ${n}`),
  });
  const lease = (attempt: number) => ({ task, attempt, correlation });
  const assigned = (attempt: number, role: 'execute' | 'verify', member: string): LogEvent => ({
    type: 'attempt.assigned',
    body: { ...lease(attempt), role, member, nonce: hex(`nonce ${attempt} ${n}`).slice(0, 32) },
  });
  const report = {
    path: 'reports/junit.xml',
    ...blob('report', 9000 + (n % 777)),
  };
  return [
    {
      type: 'task.submitted',
      body: {
        task,
        correlation,
        // Each task works on another part of the repository.
        spec: { ...SPEC, argv: [...SPEC.argv, `packages/server/src/part-${n}`] },
        bundle: null,
        rerunOf: null,
        by: { kind: 'local', user: 'olga', claimed: true },
      },
    },
    assigned(1, 'execute', executor),
    { type: 'attempt.started', body: lease(1) },
    {
      type: 'task.executed',
      body: {
        ...lease(1),
        exitCode: 0,
        commit,
        receipt,
        envelope: hex(`envelope ${n}`),
        bundle: blob('bundle', 4000 + (n % 9001)),
        log: blob('log', 20_000 + (n % 70_001)),
        artifacts: n % 4 !== 0 ? [report] : [],
        checksChanged: [],
      },
    },
    assigned(2, 'verify', verifier),
    { type: 'attempt.started', body: lease(2) },
    {
      type: 'task.verified',
      body: {
        ...lease(2),
        receipt,
        verification,
        envelope: hex(`verification envelope ${n}`),
        passed: true,
        sameOwner: n % 3 === 0,
        detail: null,
      },
    },
    {
      type: 'task.converged',
      body: {
        task,
        correlation,
        state: 'delivered',
        reason: null,
        detail: null,
        verified: true,
        confidence: 0.9,
        executor,
        verifier,
        sameOwner: n % 3 === 0,
        attempts: 1,
        commit,
        exitCode: 0,
        receipt,
        verification,
        learned: { queuedMs: 100 + (n % 4001), runMs: 9000 + (n % 60_013), faults: [] },
      },
    },
  ];
}
