import { spawn } from 'node:child_process';
import { cpSync, mkdtempSync, readFileSync, rmSync, symlinkSync, writeFileSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join, resolve } from 'node:path';
import type { Caught } from './hunt.ts';
import { type Mutation, patched } from './mutations.ts';

/** What a hunt imports. */
const SOURCES = [
  'protocol',
  'ledger',
  'node',
  'hub',
  'test/sim',
  'test/hub/core/fleet.ts',
  'test/ledger',
  'package.json',
];
/** A planted bug that makes a run go round in circles is caught by the clock. */
const huntMsMax = 10 * 60_000;

export interface Outcome {
  mutation: Mutation;
  /** Null: nobody saw it. */
  caught: Caught | null;
  seconds: number;
}

/** A copy of the sources in a temporary folder, into which bugs are planted one after the other. */
export class Garden {
  readonly folder = mkdtempSync(join(tmpdir(), 'superfleet-mutations-'));

  constructor() {
    for (const source of SOURCES) cpSync(source, join(this.folder, source), { recursive: true });
    symlinkSync(resolve('node_modules'), join(this.folder, 'node_modules'));
  }

  /** Plants it, runs at most so many seeds, and takes it out again. */
  async try(mutation: Mutation, first: number, seedsMax: number): Promise<Outcome> {
    const files = [...new Set(mutation.patches.map(({ file }) => file))];
    const texts = files.map((file) => readFileSync(join(this.folder, file), 'utf8'));
    for (const [at, file] of files.entries()) {
      const own = mutation.patches.filter((one) => one.file === file);
      writeFileSync(join(this.folder, file), own.reduce(patched, texts[at]!));
    }
    try {
      const began = Date.now();
      const caught = await hunt(this.folder, first, seedsMax);
      return { mutation, caught, seconds: (Date.now() - began) / 1000 };
    } finally {
      for (const [at, file] of files.entries()) writeFileSync(join(this.folder, file), texts[at]!);
    }
  }

  remove(): void {
    rmSync(this.folder, { recursive: true, force: true });
  }
}

function hunt(folder: string, first: number, seeds: number): Promise<Caught | null> {
  const args = ['test/sim/hunt.ts', String(first), String(seeds)];
  const child = spawn(process.execPath, args, {
    cwd: folder,
    stdio: ['ignore', 'pipe', 'pipe'],
    timeout: huntMsMax,
  });
  let said = '';
  let complained = '';
  child.stdout.on('data', (chunk: Buffer) => (said += chunk));
  child.stderr.on('data', (chunk: Buffer) => (complained += chunk));
  return new Promise((done, reject) => {
    child.on('error', reject);
    child.on('exit', (code, signal) => {
      if (signal !== null) done({ checker: 'the clock', seeds, message: `no end within ${huntMsMax} ms` });
      else if (code !== 0) reject(new Error(`the hunt ended with ${code}: ${complained.slice(-2_000)}`));
      else done(JSON.parse(said) as Caught | null);
    });
  });
}

/** Plants each of the bugs, two at a time, and tells of each as it comes. First of none: what is not planted is not found. */
export async function plantAll(
  mutations: readonly Mutation[],
  seedsMax: number,
  told: (outcome: Outcome) => void,
): Promise<Outcome[]> {
  const left = [{ name: 'none', patches: [] }, ...mutations];
  const outcomes: Outcome[] = [];
  const work = async (): Promise<void> => {
    const garden = new Garden();
    try {
      for (let next = left.shift(); next !== undefined; next = left.shift()) {
        const outcome = await garden.try(next, 1, seedsMax);
        outcomes.push(outcome);
        told(outcome);
      }
    } finally {
      garden.remove();
    }
  };
  await Promise.all([work(), work()]);
  return outcomes;
}
