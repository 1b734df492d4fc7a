import {
  call,
  edit,
  finish,
  lines,
  list,
  type Repair,
  read,
  run,
  say,
  search,
  think,
  write,
} from './repair.ts';

const unittest = (module: string, ...body: string[]): string =>
  lines(
    'import unittest',
    `import ${module}`,
    '',
    'class Test(unittest.TestCase):',
    '    def test_it(self):',
    ...body.map((line) => `        ${line}`),
    '',
    'unittest.main()',
  );
const ignored = { '.gitignore': '__pycache__/\n' };

/** Python without packages. */
export const python: Repair[] = [
  {
    name: 'python-leap-year',
    goal: 'leap() says that 1900 was a leap year.',
    files: {
      ...ignored,
      'dates.py': 'def leap(year):\n    return year % 4 == 0\n',
      'test_dates.py': unittest(
        'dates',
        'self.assertFalse(dates.leap(1900))',
        'self.assertTrue(dates.leap(2000))',
        'self.assertTrue(dates.leap(2024))',
      ),
    },
    check: 'python3 test_dates.py',
    answers: [
      [read('dates.py')],
      // Half of the rule at first.
      [edit('dates.py', 'year % 4 == 0', 'year % 4 == 0 and year % 100 != 0')],
      [finish()],
      [edit('dates.py', 'year % 100 != 0', '(year % 100 != 0 or year % 400 == 0)')],
      [finish()],
    ],
    heals: 1,
    changed: ['M\tdates.py'],
  },
  {
    name: 'python-mutable-default',
    goal: 'collect() remembers what it was given in earlier calls.',
    files: {
      ...ignored,
      'collect.py': 'def collect(item, into=[]):\n    into.append(item)\n    return into\n',
      'test_collect.py': unittest(
        'collect',
        'collect.collect(1)',
        'self.assertEqual(collect.collect(2), [2])',
      ),
    },
    check: 'python3 test_collect.py',
    answers: [
      [
        think('A default is made once.'),
        write(
          'collect.py',
          lines(
            'def collect(item, into=None):',
            '    into = [] if into is None else into',
            '    into.append(item)',
            '    return into',
          ),
        ),
      ],
      [run('python3 test_collect.py')],
      [finish()],
    ],
    changed: ['M\tcollect.py'],
  },
  {
    name: 'python-indentation',
    goal: 'shop.py does not even load.',
    files: {
      ...ignored,
      'shop.py':
        'def total(prices):\n    result = 0\n    for price in prices:\n    result += price\n    return result\n',
      'test_shop.py': unittest('shop', 'self.assertEqual(shop.total([1, 2, 3]), 6)'),
    },
    check: 'python3 test_shop.py',
    answers: [
      [run('python3 shop.py')],
      [edit('shop.py', '\n    result += price', '\n        result += price'), finish()],
    ],
    changed: ['M\tshop.py'],
  },
  {
    name: 'python-import-cycle',
    goal: 'a.py and b.py import each other and neither loads.',
    files: {
      ...ignored,
      'a.py': 'from b import double\n\nONE = 1\n\ndef two():\n    return double(ONE)\n',
      'b.py': 'from a import ONE\n\ndef double(x):\n    return x + x * ONE\n',
      'test_a.py': unittest('a', 'self.assertEqual(a.two(), 2)'),
    },
    check: 'python3 test_a.py',
    answers: [
      [read('a.py'), read('b.py')],
      [
        write('constants.py', 'ONE = 1\n'),
        edit(
          'a.py',
          'from b import double\n\nONE = 1\n',
          'from b import double\nfrom constants import ONE\n',
        ),
        edit('b.py', 'from a import', 'from constants import'),
      ],
      [run('python3 test_a.py'), finish('The constant has a module of its own.')],
    ],
    changed: ['M\ta.py', 'M\tb.py', 'A\tconstants.py'],
  },
  {
    name: 'python-encoding',
    goal: 'first() must cut at characters and not at bytes.',
    files: {
      ...ignored,
      'cut.py': "def first(text, n):\n    return text.encode()[:n].decode(errors='ignore')\n",
      'test_cut.py': unittest('cut', "self.assertEqual(cut.first('\u00e4\u00f6\u00fc', 2), '\u00e4\u00f6')"),
    },
    check: 'python3 test_cut.py',
    answers: [
      [search('encode')],
      [edit('cut.py', "text.encode()[:n].decode(errors='ignore')", 'text[:n]')],
      [finish()],
    ],
    changed: ['M\tcut.py'],
  },
  {
    name: 'python-off-by-one',
    goal: 'pages() loses the last page when it is not full.',
    files: {
      ...ignored,
      'paging.py':
        'def pages(items, size):\n    return [items[i * size:(i + 1) * size] for i in range(len(items) // size)]\n',
      'test_paging.py': unittest(
        'paging',
        'self.assertEqual(paging.pages([1, 2, 3], 2), [[1, 2], [3]])',
        'self.assertEqual(paging.pages([], 2), [])',
      ),
    },
    check: 'python3 test_paging.py',
    answers: [
      // The text is quoted wrongly at first; the tool says what is nearest.
      [edit('paging.py', 'range(len(items)//size)', 'range(-(-len(items) // size))')],
      [edit('paging.py', 'range(len(items) // size)', 'range(-(-len(items) // size))')],
      [finish()],
    ],
    changed: ['M\tpaging.py'],
  },
  {
    name: 'python-sort-key',
    goal: 'Versions are sorted as words; 1.10 must come after 1.9.',
    files: {
      ...ignored,
      'versions.py': 'def newest(all):\n    return sorted(all)[-1]\n',
      'test_versions.py': unittest('versions', "self.assertEqual(versions.newest(['1.9', '1.10']), '1.10')"),
    },
    check: 'python3 test_versions.py',
    answers: [
      [read('versions.py'), call('git', { ask: 'log' })],
      [
        edit(
          'versions.py',
          'sorted(all)[-1]',
          "max(all, key=lambda version: [int(part) for part in version.split('.')])",
        ),
      ],
      [call('git', { ask: 'diff' }), finish()],
    ],
    changed: ['M\tversions.py'],
  },
  {
    name: 'python-new-module',
    goal: 'Write slug.py with slug(title): lower case, words joined by single hyphens, nothing else.',
    files: {
      ...ignored,
      'test_slug.py': unittest(
        'slug',
        "self.assertEqual(slug.slug('  Hello, Big  World! '), 'hello-big-world')",
      ),
    },
    check: 'python3 test_slug.py',
    answers: [
      [read('test_slug.py')],
      [
        write(
          'slug.py',
          lines(
            'import re',
            '',
            'def slug(title):',
            "    return '-'.join(re.findall(r'[a-z0-9]+', title.lower()))",
          ),
        ),
        run('python3 test_slug.py'),
      ],
      [finish()],
    ],
    changed: ['A\tslug.py'],
  },
  {
    name: 'python-exception',
    goal: 'A missing key ends the program; settings.get is to give the default.',
    files: {
      ...ignored,
      'settings.py': 'VALUES = {"a": 1}\n\ndef get(key, default=None):\n    return VALUES[key]\n',
      'test_settings.py': unittest(
        'settings',
        "self.assertEqual(settings.get('a'), 1)",
        "self.assertEqual(settings.get('b', 7), 7)",
      ),
    },
    check: 'python3 test_settings.py',
    // It edits by a command, as many do.
    answers: [
      [run("sed -i 's/VALUES\\[key\\]/VALUES.get(key, default)/' settings.py && python3 test_settings.py")],
      [say('Green.'), finish()],
    ],
    changed: ['M\tsettings.py'],
  },
  {
    name: 'python-two-files',
    goal: 'Rename area() to surface() in the whole package, with its callers.',
    files: {
      ...ignored,
      'shapes/__init__.py': 'from shapes.square import area\n',
      'shapes/square.py': 'def area(side):\n    return side * side\n',
      'main.py': 'import shapes\n\ndef floor(side):\n    return shapes.area(side)\n',
      'test_main.py': unittest(
        'main, shapes',
        'self.assertEqual(main.floor(3), 9)',
        'self.assertEqual(shapes.surface(2), 4)',
        "self.assertFalse(hasattr(shapes, 'area'))",
      ),
    },
    check: 'python3 test_main.py',
    answers: [
      [search('area'), list('shapes')],
      [edit('shapes/square.py', 'def area', 'def surface'), edit('shapes/__init__.py', 'area', 'surface')],
      // One caller is forgotten.
      [finish()],
      [search('shapes.area')],
      [edit('main.py', 'shapes.area', 'shapes.surface')],
      [finish()],
    ],
    heals: 1,
    changed: ['M\tmain.py', 'M\tshapes/__init__.py', 'M\tshapes/square.py'],
  },
];
