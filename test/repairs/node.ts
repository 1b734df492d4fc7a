import { call, edit, finish, lines, list, type Repair, read, run, say, search, write } from './repair.ts';

/** A file for Node's own test runner. */
const nodeTest = (imports: string, ...body: string[]): string =>
  lines(
    "import assert from 'node:assert/strict';",
    "import { test } from 'node:test';",
    imports,
    "test('it', async () => {",
    ...body.map((line) => `  ${line}`),
    '});',
  );

/** JavaScript with Node's own test runner. */
export const node: Repair[] = [
  {
    name: 'node-await',
    goal: 'load() gives a promise of a promise of text where the callers expect an upper-case text.',
    files: {
      'load.mjs':
        'const fetchText = async () => "text";\nexport const load = async () => String(fetchText()).toUpperCase();\n',
      'load.test.mjs': nodeTest("import { load } from './load.mjs';", "assert.equal(await load(), 'TEXT');"),
    },
    check: 'node --test load.test.mjs',
    answers: [
      [read('load.mjs')],
      [edit('load.mjs', 'String(fetchText())', '(await fetchText())')],
      [run('node --test load.test.mjs')],
      [finish()],
    ],
    changed: ['M\tload.mjs'],
  },
  {
    name: 'node-number-sort',
    goal: 'median() is wrong for numbers of several digits.',
    files: {
      'median.mjs': 'export const median = (all) => [...all].sort()[Math.floor(all.length / 2)];\n',
      'median.test.mjs': nodeTest(
        "import { median } from './median.mjs';",
        'assert.equal(median([100, 9, 10]), 10);',
      ),
    },
    check: 'node --test median.test.mjs',
    answers: [[edit('median.mjs', '.sort()', '.sort((a, b) => a - b)'), finish()]],
    changed: ['M\tmedian.mjs'],
  },
  {
    name: 'node-this',
    goal: 'The counter loses itself when its method is handed on.',
    files: {
      'counter.mjs': lines(
        'export class Counter {',
        '  count = 0;',
        '  add() {',
        '    this.count += 1;',
        '  }',
        '}',
      ),
      'counter.test.mjs': nodeTest(
        "import { Counter } from './counter.mjs';",
        'const counter = new Counter();',
        '[1, 2, 3].forEach(counter.add);',
        'assert.equal(counter.count, 3);',
      ),
    },
    check: 'node --test counter.test.mjs',
    answers: [
      // A class field of the wrong form first.
      [edit('counter.mjs', '  add() {', '  add = () => {'), run('node --check counter.mjs')],
      [edit('counter.mjs', '    this.count += 1;\n  }\n', '    this.count += 1;\n  };\n')],
      [finish()],
    ],
    changed: ['M\tcounter.mjs'],
  },
  {
    name: 'node-export',
    goal: 'index.mjs does not export clamp.',
    files: {
      'src/clamp.mjs': 'export const clamp = (value, low, high) => Math.min(Math.max(value, low), high);\n',
      'index.mjs': '// Everything that is public.\n',
      'index.test.mjs': nodeTest("import { clamp } from './index.mjs';", 'assert.equal(clamp(9, 1, 5), 5);'),
    },
    check: 'node --test index.test.mjs',
    answers: [
      [list('.'), list('src')],
      [write('index.mjs', "// Everything that is public.\nexport { clamp } from './src/clamp.mjs';\n")],
      [finish()],
    ],
    changed: ['M\tindex.mjs'],
  },
  {
    name: 'node-falsy',
    goal: 'price() gives the default where the price is 0.',
    files: {
      'price.mjs': 'export const price = (item) => item.price || 10;\n',
      'price.test.mjs': nodeTest(
        "import { price } from './price.mjs';",
        'assert.equal(price({ price: 0 }), 0);',
        'assert.equal(price({}), 10);',
      ),
    },
    check: 'node --test price.test.mjs',
    answers: [[search('||')], [edit('price.mjs', '||', '??')], [say('Zero is a price.'), finish()]],
    changed: ['M\tprice.mjs'],
  },
  {
    name: 'node-json',
    goal: 'config.json is no JSON, so nothing starts.',
    files: {
      'config.json': '{\n  "name": "mesh",\n  "size": 3,\n}\n',
      'check.mjs':
        "import { readFileSync } from 'node:fs';\nconst { name, size } = JSON.parse(readFileSync('config.json', 'utf8'));\nif (name !== 'mesh' || size !== 3) process.exit(1);\n",
    },
    check: 'node check.mjs',
    answers: [
      [run('node check.mjs')],
      [call('edit', { path: 'config.json', old: '"size": 3,', new: '"size": 3' })],
      [finish()],
    ],
    changed: ['M\tconfig.json'],
  },
];
