import { edit, finish, lines, type Repair, read, run, search, write } from './repair.ts';

const main = (header: string, ...body: string[]): string =>
  lines(
    '#include <assert.h>',
    '#include <string.h>',
    `#include "${header}"`,
    'int main(void) {',
    ...body,
    '}',
  );
const build = { '.gitignore': 'test\n' };

/** C, where there is a compiler. */
export const c: Repair[] = [
  {
    name: 'c-off-by-one',
    goal: 'sum() leaves out the last number.',
    files: {
      ...build,
      'sum.h':
        'static int sum(const int *n, int count) { int s = 0; for (int i = 0; i < count - 1; i++) s += n[i]; return s; }\n',
      'test.c': main('sum.h', 'int n[] = {1, 2, 3};', 'assert(sum(n, 3) == 6);'),
    },
    check: 'cc -o test test.c && ./test',
    answers: [[read('sum.h')], [edit('sum.h', 'count - 1', 'count')], [finish()]],
    changed: ['M\tsum.h'],
  },
  {
    name: 'c-terminator',
    goal: 'copy() leaves out the end of the string.',
    files: {
      ...build,
      'copy.h':
        '#include <stddef.h>\nstatic void copy(char *to, const char *from, size_t n) { for (size_t i = 0; i < n; i++) to[i] = from[i]; }\n',
      'test.c': main(
        'copy.h',
        'char to[] = "xxxxx";',
        'copy(to, "ab", 2);',
        'assert(strcmp(to, "ab") == 0);',
      ),
    },
    check: 'cc -o test test.c && ./test',
    answers: [
      [edit('copy.h', 'to[i] = from[i]; }', "to[i] = from[i] to[n] = '\\0'; }")],
      [finish()],
      [edit('copy.h', 'from[i] to[n]', 'from[i]; to[n]'), run('cc -o test test.c && ./test')],
      [finish()],
    ],
    heals: 1,
    changed: ['M\tcopy.h'],
  },
  {
    name: 'c-prototype',
    goal: 'area.c is compiled without a declaration that its users can include.',
    files: {
      ...build,
      'area.c': 'int area(int a, int b) { return a * b; }\n',
      'test.c': main('area.h', 'assert(area(2, 3) == 6);'),
    },
    check: 'cc -Werror -o test test.c area.c && ./test',
    answers: [
      [search('area')],
      [write('area.h', '#ifndef AREA_H\n#define AREA_H\nint area(int a, int b);\n#endif\n')],
      [finish()],
    ],
    changed: ['A\tarea.h'],
  },
  {
    name: 'c-overflow',
    goal: 'middle() of two large numbers is negative.',
    files: {
      ...build,
      'middle.h': 'static int middle(int a, int b) { return (int)((unsigned)a + (unsigned)b) / 2; }\n',
      'test.c': main('middle.h', 'assert(middle(2000000000, 2000000002) == 2000000001);'),
    },
    check: 'cc -o test test.c && ./test',
    answers: [
      [
        edit('middle.h', '(int)((unsigned)a + (unsigned)b) / 2', 'a + (b - a) / 2'),
        run('cc -o test test.c && ./test'),
      ],
      [finish()],
    ],
    changed: ['M\tmiddle.h'],
  },
];
