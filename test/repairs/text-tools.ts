import { call, edit, finish, lines, list, type Repair, read, run, say, search, write } from './repair.ts';

/** awk and make. */
export const textTools: Repair[] = [
  {
    name: 'awk-field',
    goal: 'sum.awk sums the wrong column; amounts stand in the third.',
    files: {
      'sum.awk': '{ total += $2 }\nEND { print total }\n',
      'data.txt': 'a 1 10\nb 2 20\n',
      'test.sh': '[ "$(awk -f sum.awk data.txt)" = 30 ]\n',
    },
    check: 'sh test.sh',
    answers: [[read('sum.awk'), read('data.txt')], [edit('sum.awk', '$2', '$3')], [finish()]],
    changed: ['M\tsum.awk'],
  },
  {
    name: 'awk-separator',
    goal: 'names.awk must take the second field of files that are separated by commas.',
    files: {
      'names.awk': '{ print $2 }\n',
      'people.csv': '1,Ada Lovelace,1815\n2,Alan Turing,1912\n',
      'test.sh': lines(
        'awk -f names.awk people.csv > got.txt',
        'printf "Ada Lovelace\\nAlan Turing\\n" | diff - got.txt',
      ),
      '.gitignore': 'got.txt\n',
    },
    check: 'sh test.sh',
    answers: [[write('names.awk', 'BEGIN { FS = "," }\n{ print $2 }\n'), finish()]],
    changed: ['M\tnames.awk'],
  },
  {
    name: 'awk-average',
    goal: 'average.awk divides by zero for an empty file; it is to print 0 then.',
    files: {
      'average.awk': '{ s += $1 }\nEND { print s / NR }\n',
      'test.sh': lines(
        '[ "$(printf "" | awk -f average.awk)" = 0 ] || { echo "empty is not 0"; exit 1; }',
        '[ "$(printf "2\\n4\\n" | awk -f average.awk)" = 3 ] || { echo "2 and 4 are not 3"; exit 1; }',
      ),
    },
    check: 'sh test.sh',
    // The first try breaks the other half of the check.
    answers: [
      [edit('average.awk', 's / NR', '0')],
      [finish('Prints 0.')],
      [edit('average.awk', 'print 0', 'print NR ? s / NR : 0')],
      [run('sh test.sh'), finish()],
    ],
    heals: 1,
    changed: ['M\taverage.awk'],
  },
  {
    name: 'awk-duplicates',
    goal: 'unique.awk is to drop lines seen before and to keep the order.',
    files: {
      'unique.awk': 'seen[$0]\n',
      'test.sh': '[ "$(printf "b\\na\\nb\\n" | awk -f unique.awk | tr "\\n" ,)" = b,a, ]\n',
    },
    check: 'sh test.sh',
    answers: [[search('seen')], [edit('unique.awk', 'seen[$0]', '!seen[$0]++')], [finish()]],
    changed: ['M\tunique.awk'],
  },
  {
    name: 'awk-report',
    goal: 'report.awk must pad names to eight characters and print amounts with two decimals.',
    files: {
      'report.awk': '{ printf "%s %s\\n", $1, $2 }\n',
      'test.sh': '[ "$(echo "tea 2.5" | awk -f report.awk)" = "tea      2.50" ]\n',
    },
    check: 'sh test.sh',
    answers: [
      [run('echo "tea 2.5" | awk -f report.awk')],
      [call('edit', { path: 'report.awk', old: '"%s %s\\n"', new: '"%-8s %.2f\\n"', all: true })],
      [run('sh test.sh')],
      [finish()],
    ],
    changed: ['M\treport.awk'],
  },
  {
    name: 'awk-range',
    goal: 'section.awk prints the marker lines too; only what is between BEGIN and END is wanted.',
    files: {
      'section.awk': '/^BEGIN$/, /^END$/\n',
      'test.sh': '[ "$(printf "x\\nBEGIN\\ny\\nEND\\nz\\n" | awk -f section.awk)" = y ]\n',
    },
    check: 'sh test.sh',
    // All ways but the last fail; it begins anew from the base.
    answers: [
      [write('section.awk', '/^BEGIN$/ { on = 1 }\non\n'), finish()],
      [write('section.awk', '/^BEGIN$/ { on = 1 }\n/^END$/ { on = 0 }\non\n'), finish()],
      [read('section.awk')],
      [write('section.awk', '/^END$/ { on = 0 }\non\n/^BEGIN$/ { on = 1 }\n'), finish()],
    ],
    code: { heals: 1 },
    heals: 2,
    changed: ['M\tsection.awk'],
  },
  {
    name: 'make-tabs',
    goal: 'The Makefile does not parse: its recipe is indented by spaces.',
    files: { Makefile: 'hello.txt:\n    echo hello > hello.txt\n', '.gitignore': 'hello.txt\n' },
    check: 'make -s hello.txt && grep -q hello hello.txt',
    answers: [
      [run('make')],
      [write('Makefile', 'hello.txt:\n\techo hello > hello.txt\n')],
      [run('make'), finish()],
    ],
    changed: ['M\tMakefile'],
  },
  {
    name: 'make-dependency',
    goal: 'book.txt must be built again when a chapter has changed.',
    files: {
      Makefile: 'book.txt:\n\tcat one.txt two.txt > book.txt\n',
      'one.txt': 'one\n',
      'two.txt': 'two\n',
      '.gitignore': 'book.txt\n',
      'test.sh': lines(
        'rm -f book.txt',
        'make -s book.txt',
        'touch -d "2001-01-01" book.txt',
        'make -q book.txt && { echo "book.txt is thought to be new"; exit 1; }',
        'exit 0',
      ),
    },
    check: 'sh test.sh',
    answers: [
      [read('Makefile'), read('test.sh')],
      [
        say('The target names no prerequisites.'),
        edit(
          'Makefile',
          'book.txt:\n\tcat one.txt two.txt > book.txt',
          'book.txt: one.txt two.txt\n\tcat $^ > $@',
        ),
      ],
      [finish()],
    ],
    changed: ['M\tMakefile'],
  },
  {
    name: 'make-phony',
    goal: 'make clean does nothing because of the folder named clean.',
    files: {
      Makefile: 'clean:\n\trm -f junk.o\n',
      'clean/README': 'How we keep things clean.\n',
      'test.sh':
        'touch junk.o; make -s clean; [ ! -e junk.o ] || { rm junk.o; echo "junk.o is still there"; exit 1; }\n',
    },
    check: 'sh test.sh',
    answers: [
      [list(), read('Makefile')],
      [edit('Makefile', 'clean:', '.PHONY: clean\nclean:'), finish()],
    ],
    changed: ['M\tMakefile'],
  },
  {
    name: 'make-variable',
    goal: 'Whoever calls make with NAME set should be greeted by that name, with a fall-back of world.',
    files: {
      Makefile: 'override NAME = world\nall:\n\t@echo hello $(NAME)\n',
      'test.sh': '[ "$(make -s NAME=mesh)" = "hello mesh" ] && [ "$(make -s)" = "hello world" ]\n',
    },
    check: 'sh test.sh',
    answers: [[edit('Makefile', 'override NAME =', 'NAME ?='), run('make -s NAME=mesh')], [finish()]],
    changed: ['M\tMakefile'],
  },
];
