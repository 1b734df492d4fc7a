import { edit, finish, lines, list, type Repair, read, run, say, search, think, write } from './repair.ts';

const equals = (command: string, wanted: string): string =>
  lines(`got=$(${command})`, `[ "$got" = "${wanted}" ] || { echo "expected ${wanted}, got $got"; exit 1; }`);

/** POSIX shell and bash. */
export const shell: Repair[] = [
  {
    name: 'sh-quoting',
    goal: 'size.sh must count the bytes of a file whose name has a space in it.',
    files: {
      'size.sh': 'cat $1 | wc -c | tr -d " "\n',
      'a b.txt': 'four',
      'test.sh': equals("sh size.sh 'a b.txt'", '4'),
    },
    check: 'sh test.sh',
    answers: [
      [list(), read('size.sh')],
      [edit('size.sh', 'cat $1', 'cat "$1"')],
      [run('sh test.sh'), finish()],
    ],
    changed: ['M\tsize.sh'],
  },
  {
    name: 'sh-default',
    goal: 'greet.sh without an argument is to greet the world.',
    files: { 'greet.sh': 'echo "Hello, $1!"\n', 'test.sh': equals('sh greet.sh', 'Hello, world!') },
    check: 'sh test.sh',
    // The shortest way: everything in one answer.
    answers: [[edit('greet.sh', '$1', `\${1:-world}`), finish()]],
    changed: ['M\tgreet.sh'],
    code: { mode: 'single' },
  },
  {
    name: 'sh-exit-code',
    goal: 'pipeline.sh hides that its first step failed; it must end with a code that is not 0.',
    files: {
      'step.sh': 'echo partial; exit 3\n',
      'pipeline.sh': lines('sh step.sh > out.txt', 'echo done'),
      'test.sh': lines('if sh pipeline.sh > /dev/null; then echo "it says that all is well"; exit 1; fi'),
      '.gitignore': 'out.txt\n',
    },
    check: 'sh test.sh',
    answers: [
      [search('step.sh'), read('pipeline.sh')],
      [write('pipeline.sh', lines('set -e', 'sh step.sh > out.txt', 'echo done'))],
      [finish()],
    ],
    changed: ['M\tpipeline.sh'],
  },
  {
    name: 'sh-loop-subshell',
    goal: 'count.sh prints 0 whatever it is given; it is to print how many lines are not empty.',
    files: {
      'count.sh': lines(
        'n=0',
        'cat "$1" | while read -r line; do',
        '  [ -n "$line" ] && n=$((n + 1))',
        'done',
        'echo $n',
      ),
      'three.txt': 'a\n\nb\nc\n',
      'test.sh': equals('sh count.sh three.txt', '3'),
    },
    check: 'sh test.sh',
    answers: [
      [think('A pipe runs the loop in a subshell.'), read('count.sh')],
      [
        edit('count.sh', 'cat "$1" | while', 'while'),
        edit('count.sh', 'done\n', 'done < "$1"\n'),
        run('sh count.sh three.txt'),
      ],
      [finish('The loop read from a pipe, so its variable was lost.')],
    ],
    changed: ['M\tcount.sh'],
  },
  {
    name: 'sh-getopts',
    goal: 'opts.sh does not take -o with a value.',
    files: {
      'opts.sh': lines(
        'out=none',
        'while getopts vo opt; do',
        '  case $opt in o) out=$OPTARG ;; v) : ;; *) exit 2 ;; esac',
        'done',
        'echo "$out"',
      ),
      'test.sh': equals('sh opts.sh -v -o file.txt', 'file.txt'),
    },
    check: 'sh test.sh',
    // The first try is wrong, and the check says so.
    answers: [
      [edit('opts.sh', 'getopts vo', 'getopts v:o')],
      [finish()],
      [read('opts.sh'), edit('opts.sh', 'getopts v:o', 'getopts vo:')],
      [finish()],
    ],
    heals: 1,
    changed: ['M\topts.sh'],
  },
  {
    name: 'sh-trap',
    goal: 'work.sh must remove its temporary file also where the work fails.',
    files: {
      'work.sh': lines('set -e', 'tmp=./work.tmp', 'echo busy > $tmp', 'sh "$1"', 'rm -f $tmp'),
      'bad.sh': 'exit 1\n',
      'test.sh': lines(
        'sh work.sh bad.sh',
        'if [ -e work.tmp ]; then rm work.tmp; echo "left behind"; exit 1; fi',
      ),
    },
    check: 'sh test.sh',
    answers: [
      [read('work.sh'), read('test.sh')],
      [edit('work.sh', 'tmp=./work.tmp\n', "tmp=./work.tmp\ntrap 'rm -f $tmp' EXIT\n")],
      [run('sh test.sh'), edit('work.sh', 'sh "$1"\nrm -f $tmp\n', 'sh "$1"\n')],
      [finish()],
    ],
    changed: ['M\twork.sh'],
  },
  {
    name: 'sh-missing-file',
    goal: 'The configuration that app.sh reads is missing; add it with PORT 8080.',
    files: {
      'app.sh': '. ./conf/app.conf\necho "port $PORT"\n',
      'test.sh': equals('sh app.sh', 'port 8080'),
    },
    check: 'sh test.sh',
    answers: [[write('conf/app.conf', 'PORT=8080\n')], [say('Written.'), finish()]],
    changed: ['A\tconf/app.conf'],
  },
  {
    name: 'sh-rename',
    goal: 'main.sh sources lib/utils.sh, but the file is called util.sh. Rename the file.',
    files: {
      'lib/util.sh': 'shout() { echo "$1" | tr a-z A-Z; }\n',
      'main.sh': '. lib/utils.sh\nshout ok\n',
      'test.sh': equals('sh main.sh', 'OK'),
    },
    check: 'sh test.sh',
    answers: [[list('lib')], [run('mv lib/util.sh lib/utils.sh && sh test.sh')], [finish()]],
    changed: ['D\tlib/util.sh', 'A\tlib/utils.sh'],
  },
  {
    name: 'sh-glob-order',
    goal: 'join.sh joins part10 before part2; the parts are to come in the order of their numbers.',
    files: {
      'join.sh': 'cat parts/part* | tr -d "\\n"\n',
      'parts/part1': 'a\n',
      'parts/part2': 'b\n',
      'parts/part10': 'c\n',
      'test.sh': equals('sh join.sh', 'abc'),
    },
    check: 'sh test.sh',
    // A path that is not there is told, and nothing is lost by it.
    answers: [
      [read('src/join.sh')],
      [list(), read('join.sh')],
      [write('join.sh', "ls parts | sort -t t -k 2 -n | sed 's|^|parts/|' | xargs cat | tr -d '\\n'\n")],
      [run('sh join.sh')],
      [write('join.sh', "printf '%s\\n' parts/part* | sort -V | xargs cat | tr -d '\\n'\n")],
      [run('sh test.sh'), finish()],
    ],
    changed: ['M\tjoin.sh'],
  },
  {
    name: 'bash-array',
    goal: 'last.sh is to print the last of its arguments.',
    files: {
      'last.sh': `args=("$@")\nlast=$#\necho "\${args[last]}"\n`,
      'test.sh': equals('bash last.sh x "y z"', 'y z'),
    },
    check: 'sh test.sh',
    answers: [[edit('last.sh', 'args[last]', 'args[last - 1]'), run('bash last.sh 1 2')], [finish()]],
    changed: ['M\tlast.sh'],
  },
];
