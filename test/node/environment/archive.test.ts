// limit: 60 s
/** Environments as archives: what comes out is what went in, and what is hostile is refused before anything of it lies elsewhere. */
import { execFileSync } from 'node:child_process';
import {
  chmodSync,
  existsSync,
  lstatSync,
  mkdirSync,
  readdirSync,
  readFileSync,
  readlinkSync,
  rmSync,
  symlinkSync,
  utimesSync,
  writeFileSync,
} from 'node:fs';
import { createServer } from 'node:net';
import { dirname, join } from 'node:path';
import { buffer } from 'node:stream/consumers';
import { zstdCompressSync } from 'node:zlib';
import { type Header, pack } from 'tar-stream';
import { test } from 'uvu';
import * as assert from 'uvu/assert';
import { packEnvironment, unpackEnvironment } from '../../../node/environment/archive.ts';
import type { PreparedFile } from '../../../node/environment/prepared.ts';
import type { TreeBounds } from '../../../node/environment/tree-check.ts';
import { dropRoot } from '../../unprivileged.ts';
import { Folder } from '../sandbox/support.ts';

dropRoot();
const signal = (): AbortSignal => new AbortController().signal;
const DIGEST = 'ab'.repeat(32);
const PARTS = [
  { in: 'workspace', path: 'node_modules' },
  { in: 'home', path: '.cache/x' },
] as const;
const file: PreparedFile = { format: 1, digest: DIGEST, parts: [...PARTS], bytes: 0 };
const wanted = { digest: DIGEST, makes: [...PARTS] };

async function whole(archive: AsyncIterable<Uint8Array>): Promise<Buffer> {
  const all: Uint8Array[] = [];
  for await (const piece of archive) all.push(piece);
  return Buffer.concat(all);
}

async function* once(bytes: Uint8Array): AsyncGenerator<Uint8Array> {
  for (let at = 0; at < bytes.length; at += 1000) yield bytes.subarray(at, at + 1000);
}

/** All that lies below a folder, a line each. */
function listed(root: string, below = ''): string[] {
  return readdirSync(join(root, below))
    .sort()
    .flatMap((name) => {
      const path = join(below, name);
      const facts = lstatSync(join(root, path));
      if (facts.isSymbolicLink()) return [`${path} -> ${readlinkSync(join(root, path))}`];
      const mode = (facts.mode & 0o7777).toString(8);
      if (facts.isDirectory()) return [`${path}/ ${mode}`, ...listed(root, path)];
      const text = readFileSync(join(root, path)).toString('base64').slice(0, 40);
      return [`${path} ${mode} ${facts.size} ${Math.floor(facts.mtimeMs / 1000)} ${text}`];
    });
}

/** An environment with two parts, a folder and a file. */
function environment(folder: string): string {
  const from = join(folder, 'made');
  mkdirSync(join(from, '0', 'pkg'), { recursive: true });
  mkdirSync(join(from, '0', '.bin'));
  writeFileSync(join(from, '0', 'pkg', 'index.js'), 'module.exports = 1;\n');
  writeFileSync(join(from, '0', 'pkg', 'empty'), '');
  writeFileSync(join(from, '0', 'pkg', 'ünï'), Buffer.alloc(700_000, 7));
  writeFileSync(join(from, '0', 'pkg', 'say'), '#!/bin/sh\n', { mode: 0o755 });
  utimesSync(join(from, '0', 'pkg', 'say'), 1_600_000_000, 1_600_000_000);
  symlinkSync('../pkg/say', join(from, '0', '.bin', 'say'));
  symlinkSync('../../packages/mine', join(from, '0', 'mine').replace('/mine', '/.bin/mine'));
  symlinkSync('/usr/bin/python3', join(from, '0', '.bin', 'python'));
  const long = join(from, '0', 'd'.repeat(120), 'e'.repeat(120));
  mkdirSync(long, { recursive: true });
  writeFileSync(join(long, 'f'.repeat(120)), 'deep');
  writeFileSync(join(from, '1'), 'a file as a part');
  return from;
}

test('a tree comes out as it went in, and the same tree gives the same bytes', async () => {
  using folder = new Folder('archive');
  const from = environment(folder.path);
  const first = await whole(packEnvironment(from, file, signal()));
  const again = await whole(packEnvironment(from, file, signal()));
  assert.ok(first.equals(again));
  const to = join(folder.path, 'to');
  mkdirSync(to);
  const { parts, files, bytes } = await unpackEnvironment(once(first), to, wanted, signal());
  assert.equal(parts, [...PARTS]);
  assert.is(bytes, 20 + 700_000 + 10 + 4 + 16);
  assert.is(files, listed(to).filter((line) => !line.includes('/ ')).length);
  assert.equal(listed(to), listed(from));
});

test('a set-uid bit is not carried, and folders are opened up', async () => {
  using folder = new Folder('archive');
  const from = environment(folder.path);
  chmodSync(join(from, '0', 'pkg', 'say'), 0o6755);
  chmodSync(join(from, '0', 'pkg'), 0o2700);
  const to = join(folder.path, 'to');
  mkdirSync(to);
  await unpackEnvironment(packEnvironment(from, file, signal()), to, wanted, signal());
  assert.is(lstatSync(join(to, '0', 'pkg', 'say')).mode & 0o7777, 0o755);
  assert.is(lstatSync(join(to, '0', 'pkg')).mode & 0o7777, 0o755);
});

const refuse = async (work: Promise<unknown>, words: RegExp): Promise<void> => {
  const error = await work.then(
    () => null,
    (thrown: unknown) => thrown as Error & { code?: string },
  );
  assert.ok(error, `expected a refusal: ${words}`);
  assert.is(error.code, 'SF_NOT_PROVED', String(error));
  assert.match(error.message, words);
};

test('what leads out or is no file, folder or link is not packed', async () => {
  using folder = new Folder('archive');
  const cases: [string, (at: string) => void, RegExp][] = [
    ['a link to /etc', (at) => symlinkSync('/etc/passwd', at), /leaves/],
    ['a link above', (at) => symlinkSync('../../../etc/passwd', at), /leaves/],
    ['a pipe', (at) => void execFileSync('mkfifo', [at]), /neither/],
    ['a twin', (at) => writeFileSync(join(dirname(at), 'SAY'), ''), /case/],
    [
      'no text',
      (at) => writeFileSync(Buffer.concat([Buffer.from(`${dirname(at)}/`), Buffer.of(0xff, 0xfe)]), ''),
      /no text|ENOENT/,
    ],
  ];
  for (const [what, make, words] of cases) {
    const from = environment(join(folder.path, what.replaceAll(' ', '-').replaceAll('/', '')));
    make(join(from, '0', 'pkg', 'bad'));
    await whole(packEnvironment(from, file, signal())).then(
      () => assert.unreachable(what),
      (error: Error) => assert.match(error.message, words, what),
    );
  }
  const from = environment(join(folder.path, 'socket'));
  const server = createServer();
  await new Promise<void>((resolve) => server.listen(join(from, '0', 's'), resolve));
  await refuse(whole(packEnvironment(from, file, signal())), /neither/);
  await new Promise((resolve) => server.close(resolve));
  rmSync(join(from, '0', 's'), { force: true });
  await refuse(whole(packEnvironment(from, file, signal(), { entriesMax: 3, bytesMax: 1e9 })), /3 entries/);
  await refuse(whole(packEnvironment(from, file, signal(), { entriesMax: 300, bytesMax: 100 })), /100 bytes/);
  const stop = AbortSignal.abort(new Error('enough'));
  await whole(packEnvironment(from, file, stop)).then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.message, 'enough'),
  );
});

type Entry = Partial<Header> & { name: string; body?: string | Buffer };

/** A tar of these entries, written by the library as it is told. */
async function tar(entries: Entry[], list: unknown = file): Promise<Buffer> {
  const archive = pack();
  if (list !== null) archive.entry({ name: 'made.json' }, JSON.stringify(list));
  for (const { body, ...header } of entries) {
    if (body === undefined) archive.entry(header).end(undefined);
    else archive.entry(header, body);
  }
  archive.finalize();
  return buffer(archive as unknown as NodeJS.ReadableStream);
}

const folderOf = (name: string): Entry => ({ name, type: 'directory' });
const linkOf = (name: string, to: string): Entry => ({ name, type: 'symlink', linkname: to });
const fileOf = (name: string, body: string | Buffer = 'x'): Entry => ({ name, body });
const START = [folderOf('0')];
const END = fileOf('1');

class Hostile {
  readonly folder = new Folder('hostile');
  #n = 0;
  /** Unpacks compressed bytes; whatever comes of it, nothing lies beside the folder it is to be in. */
  async unpack(bytes: Uint8Array, bounds?: TreeBounds): Promise<Error | null> {
    const place = join(this.folder.path, `${this.#n++}`);
    const keep = join(place, 'work', 'keep');
    mkdirSync(keep, { recursive: true });
    const more = bounds === undefined ? {} : { bounds };
    const error = await unpackEnvironment(once(bytes), keep, { ...wanted, ...more }, signal()).then(
      () => null,
      (thrown: unknown) => thrown as Error,
    );
    assert.equal(readdirSync(place), ['work']);
    assert.equal(readdirSync(join(place, 'work')), ['keep']);
    assert.ok(readdirSync(keep).every((name) => name === '0' || name === '1'));
    if (error !== null) assert.is((error as Error & { code?: string }).code, 'SF_NOT_PROVED', String(error));
    else assert.ok(listed(keep).every((line) => !/^\S+ [2467]\d{3} /.test(line)));
    rmSync(place, { recursive: true });
    return error;
  }
  [Symbol.dispose](): void {
    this.folder[Symbol.dispose]();
  }
}

test('each thing that may not be in an archive is refused by its name', async () => {
  using hostile = new Hostile();
  const cases: [string, Entry[], RegExp][] = [
    ['nothing', [], /0 of 2 parts/],
    ['a part is missing', [...START], /1 of 2 parts/],
    ['a third part', [...START, END, fileOf('2')], /of no part/],
    ['a part by another spelling', [folderOf('00'), END], /of no part/],
    ['an absolute path', [...START, fileOf('/0/a')], /plain path|folder/],
    ['dots', [...START, fileOf('0/../../a')], /plain path/],
    ['a dot', [...START, fileOf('0/./a')], /plain path/],
    ['twice', [...START, fileOf('0/a'), fileOf('0/a')], /twice/],
    ['out of order', [...START, fileOf('0/b'), fileOf('0/a')], /order/],
    ['case', [...START, fileOf('0/A'), fileOf('0/a')], /case/],
    ['two spellings of one letter', [...START, fileOf('0/e\u0301'), fileOf('0/\u00e9')], /case/],
    ['below a file', [...START, fileOf('0/a'), fileOf('0/a/b')], /no folder/],
    ['below a link', [...START, linkOf('0/a', '.'), fileOf('0/a/b')], /no folder/],
    ['over a link', [...START, linkOf('0/a', 'b'), fileOf('0/a')], /twice/],
    ['below nothing', [...START, fileOf('0/a/b')], /no folder/],
    ['back into a folder', [...START, folderOf('0/a'), fileOf('0/b'), fileOf('0/a/c')], /no folder/],
    ['a link to outside', [...START, linkOf('0/a', '/etc/passwd')], /leaves/],
    ['a link above all', [...START, linkOf('0/a', '../../../../etc')], /leaves/],
    ['a link in place of a part', [linkOf('0', '/usr'), END], /place of a part/],
    ['a link to nothing', [...START, linkOf('0/a', '')], /link to nothing/],
    ['a hard link', [...START, { name: '0/a', type: 'link', linkname: '0/b' }], /is a link$/],
    ['a pipe', [...START, { name: '0/a', type: 'fifo' }], /fifo/],
    ['a device', [...START, { name: '0/a', type: 'block-device', devmajor: 8, devminor: 0 }], /block-device/],
    [
      'a terminal',
      [...START, { name: '0/a', type: 'character-device', devmajor: 1, devminor: 3 }],
      /character/,
    ],
    ['a long name', [...START, fileOf(`0/${'n'.repeat(300)}`)], /long a name/],
    ['a long path', [...START, fileOf(`0/${'n/'.repeat(1200)}x`)], /long a path/],
    ['no text', [...START, fileOf('0/\ufffd')], /no text/],
  ];
  for (const [what, entries, words] of cases) {
    const error = await hostile.unpack(zstdCompressSync(await tar(entries)));
    assert.ok(error, what);
    assert.match(error.message, words, what);
  }
  const good = [...START, fileOf('0/a'), linkOf('0/b', 'a'), END];
  assert.is(await hostile.unpack(zstdCompressSync(await tar(good))), null);
  const odd = [...START, { ...fileOf('0/a'), mode: 0o6777 }, END];
  assert.is(await hostile.unpack(zstdCompressSync(await tar(odd))), null);
  const lists: [unknown, RegExp][] = [
    [null, /where the list/],
    [{ ...file, digest: 'cd'.repeat(32) }, /another environment/],
    [{ ...file, parts: [{ in: 'workspace', path: '../x' }, PARTS[1]] }, /does not make/],
    [{ ...file, parts: [PARTS[0], PARTS[0]] }, /does not make/],
    [{ ...file, more: 1 }, /of the form/],
    ['text', /of the form/],
  ];
  for (const [list, words] of lists) {
    const error = await hostile.unpack(zstdCompressSync(await tar(good, list)));
    assert.match(error?.message ?? '', words);
  }
  const tight = { entriesMax: 3, bytesMax: 1_000_000 };
  assert.match((await hostile.unpack(zstdCompressSync(await tar(good)), tight))?.message ?? '', /3 entries/);
  const zeros = [...START, fileOf('0/a', Buffer.alloc(3_000_000)), END];
  assert.match(
    (await hostile.unpack(zstdCompressSync(await tar(zeros)), { ...tight, entriesMax: 9 }))?.message ?? '',
    /1000000 bytes/,
  );
  const bomb = zstdCompressSync(Buffer.concat([await tar(good), Buffer.alloc(64_000_000)]));
  assert.match(
    (await hostile.unpack(bomb, { entriesMax: 9, bytesMax: 1000 }))?.message ?? '',
    /unpacks to more/,
  );
  for (const bytes of [
    Buffer.alloc(0),
    Buffer.from('no archive'),
    zstdCompressSync(Buffer.from('no tar at all')),
  ])
    assert.ok(await hostile.unpack(bytes));
});

/** The same numbers for the same seed. */
function random(seed: number): (below: number) => number {
  let state = seed;
  return (below) => {
    state = (Math.imul(state, 1664525) + 1013904223) >>> 0;
    return Math.floor((state / 2 ** 32) * below);
  };
}

test('of 300 archives made of hostile pieces, and 200 with changed bytes, none writes outside or hangs', async () => {
  using hostile = new Hostile();
  const names = ['a', 'A', 'b', '..', '.', '', 'é', 'a\\b', 'x'.repeat(200), '\0', '0', '1'];
  const links = [
    'a',
    '../a',
    '/etc/passwd',
    '../../..',
    '/workspace/x',
    '/usr/../etc',
    '.',
    '/',
    '//usr/bin',
    '../../1',
  ];
  const types: Header['type'][] = ['file', 'directory', 'symlink', 'link', 'fifo', 'character-device'];
  let taken = 0;
  for (let seed = 1; seed <= 300; seed += 1) {
    const next = random(seed);
    const pick = <T>(from: readonly T[]): T => from[next(from.length)]!;
    const entries: Entry[] = next(4) > 0 ? [...START] : [];
    // Some are nearly right, so that what comes late is looked at too.
    const mild = next(2) === 0;
    for (let n = next(8); n > 0; n -= 1) {
      const path = mild
        ? [`0`, pick(['a', 'b', 'c', 'd'])]
        : ['0', '1', '..', '/']
            .slice(next(4))
            .slice(0, 1)
            .concat(Array.from({ length: next(4) }, () => pick(names)));
      const type = mild ? pick(types.slice(0, 3)) : pick(types);
      const size = type === 'file' ? next(2000) : 0;
      const entry: Entry = { name: path.join('/') || 'a', type, mode: next(0o10000), linkname: pick(links) };
      entries.push(size > 0 ? { ...entry, body: Buffer.alloc(size, 1) } : entry);
    }
    entries.push(END);
    if ((await hostile.unpack(zstdCompressSync(await tar(entries)))) === null) taken += 1;
  }
  assert.ok(taken > 10 && taken < 200, `${taken} were taken`);
  const good = await tar([
    ...START,
    fileOf('0/a', 'some text'),
    folderOf('0/b'),
    linkOf('0/b/c', '../a'),
    END,
  ]);
  for (let seed = 1; seed <= 200; seed += 1) {
    const next = random(seed);
    const plain = Buffer.from(good);
    for (let n = 1 + next(6); n > 0; n -= 1) plain[next(plain.length)] = next(256);
    const compressed = zstdCompressSync(seed % 2 === 0 ? plain : good.subarray(0, next(good.length)));
    if (seed % 4 === 1) compressed[next(compressed.length)] = next(256);
    await hostile.unpack(compressed);
  }
});

test('an archive that stops coming ends with its signal', async () => {
  using folder = new Folder('archive');
  const from = environment(folder.path);
  const bytes = await whole(packEnvironment(from, file, signal()));
  const to = join(folder.path, 'to');
  mkdirSync(to);
  const stop = new AbortController();
  async function* endless(): AsyncGenerator<Uint8Array> {
    yield bytes.subarray(0, 200);
    setImmediate(() => stop.abort(new Error('enough')));
    await new Promise((_, reject) => stop.signal.addEventListener('abort', reject));
  }
  await unpackEnvironment(endless(), to, wanted, stop.signal).then(
    () => assert.unreachable(),
    (error: Error) => assert.is(error.message, 'enough'),
  );
  assert.ok(existsSync(to));
});

test.run();
