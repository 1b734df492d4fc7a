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

/** Perl as any Debian has it, without modules. */
export const perl: Repair[] = [
  {
    name: 'perl-context',
    goal: 'Bag::size gives the last item, and should give how many there are.',
    files: {
      'lib/Bag.pm':
        'package Bag; use strict; use warnings;\nsub size { my ($items) = @_; return $$items[-1]; }\n1;\n',
      't/bag.t': lines(
        'use lib "lib"; use Bag;',
        'my $got = Bag::size([4, 5, 6, 9]);',
        'if ($got != 4) { print "not ok - expected 4, got $got\\n"; exit 1 }',
      ),
    },
    check: 'perl t/bag.t',
    answers: [
      [list('lib'), read('lib/Bag.pm')],
      [edit('lib/Bag.pm', '$$items[-1]', 'scalar @$items')],
      [finish()],
    ],
    changed: ['M\tlib/Bag.pm'],
  },
  {
    name: 'perl-greedy',
    goal: 'tags.pl swallows everything between the first < and the last >; list each tag.',
    files: {
      'tags.pl': 'local $/; my $text = <STDIN>;\nprint join(",", $text =~ /<(.+)>/g), "\\n";\n',
      'test.sh': '[ "$(echo "<a> and <b>" | perl tags.pl)" = a,b ]\n',
    },
    check: 'sh test.sh',
    answers: [[read('tags.pl')], [edit('tags.pl', '(.+)', '(.+?)'), run('sh test.sh')], [finish()]],
    changed: ['M\ttags.pl'],
  },
  {
    name: 'perl-numeric-sort',
    goal: 'top.pl sorts numbers as words.',
    files: {
      'top.pl': 'print join(" ", sort @ARGV), "\\n";\n',
      'test.sh': '[ "$(perl top.pl 10 9 100)" = "9 10 100" ]\n',
    },
    check: 'sh test.sh',
    answers: [
      [edit('top.pl', 'sort @ARGV', 'sort { $b <=> $a } @ARGV')],
      [finish('Sorted by number.')],
      [edit('top.pl', '$b <=> $a', '$a <=> $b'), finish()],
    ],
    heals: 1,
    changed: ['M\ttop.pl'],
  },
  {
    name: 'perl-strict',
    goal: 'hello.pl does not compile under strict.',
    files: {
      'hello.pl': 'use strict; use warnings;\n$name = shift // "world";\nprint "hello $name\\n";\n',
    },
    check: 'test "$(perl hello.pl mesh)" = "hello mesh"',
    answers: [[run('perl -c hello.pl')], [edit('hello.pl', '\n$name =', '\nmy $name ='), finish()]],
    changed: ['M\thello.pl'],
  },
  {
    name: 'perl-hash-order',
    goal: 'dump.pl prints its keys in another order each time; sort them.',
    files: {
      'dump.pl':
        'my %h = (pear => 1, apple => 2, fig => 3, plum => 4, date => 5);\nprint join(",", keys %h), "\\n";\n',
      'test.sh': '[ "$(perl dump.pl)" = apple,date,fig,pear,plum ]\n',
    },
    check: 'sh test.sh',
    answers: [
      [search('keys')],
      [edit('dump.pl', 'keys %h', 'sort keys %h')],
      [call('git', { ask: 'status' }), finish()],
    ],
    changed: ['M\tdump.pl'],
  },
  {
    name: 'perl-exit',
    goal: 'lint.pl must exit 1 when it has found trailing spaces.',
    files: {
      'lint.pl':
        'my $bad = 0;\nwhile (<>) { if (/ $/) { print "$.: trailing space\\n"; $bad++ } }\nexit($bad ? 0 : 1);\n',
      'test.sh': lines(
        'printf "a \\n" | perl lint.pl && { echo "bad text passes"; exit 1; }',
        'printf "a\\n" | perl lint.pl || { echo "good text fails"; exit 1; }',
      ),
    },
    check: 'sh test.sh',
    answers: [
      [think('The exit code is the wrong way round.'), edit('lint.pl', '$bad ? 0 : 1', '$bad ? 1 : 0')],
      [finish()],
    ],
    changed: ['M\tlint.pl'],
  },
  {
    name: 'perl-split',
    goal: 'fields.pl drops the empty fields at the end of a line.',
    files: {
      'fields.pl': 'while (<STDIN>) { chomp; my @f = split /:/; print scalar(@f), "\\n"; }\n',
      'test.sh': '[ "$(printf "a:b::\\n" | perl fields.pl)" = 4 ]\n',
    },
    check: 'sh test.sh',
    // What it calls first is not whole; the tool says what it takes.
    answers: [
      [call('edit', { path: 'fields.pl', old: 'split /:/' })],
      [edit('fields.pl', 'split /:/', 'split /:/, $_, -1')],
      [run('sh test.sh')],
      [finish()],
    ],
    changed: ['M\tfields.pl'],
  },
  {
    name: 'perl-module',
    goal: 'Write lib/Roman.pm with Roman::of(n) for numbers from 1 to 39.',
    files: {
      't/roman.t': lines(
        'use lib "lib"; use Roman;',
        'my %want = (1 => "I", 4 => "IV", 9 => "IX", 14 => "XIV", 39 => "XXXIX");',
        'for (sort keys %want) { die "$_: " . Roman::of($_) . "\\n" if Roman::of($_) ne $want{$_} }',
      ),
    },
    check: 'perl t/roman.t',
    answers: [
      [read('t/roman.t')],
      [
        write('lib/Roman.pm', lines('package Roman;', 'sub of { return "I" x $_[0] }', '1;')),
        run('perl t/roman.t'),
      ],
      [
        say('Four and nine are written by subtraction.'),
        write(
          'lib/Roman.pm',
          lines(
            'package Roman;',
            'my @PARTS = ([10, "X"], [9, "IX"], [5, "V"], [4, "IV"], [1, "I"]);',
            'sub of {',
            '  my ($n) = @_;',
            '  my $text = "";',
            '  for (@PARTS) { while ($n >= $$_[0]) { $text .= $$_[1]; $n -= $$_[0] } }',
            '  return $text;',
            '}',
            '1;',
          ),
        ),
      ],
      [run('perl t/roman.t'), finish()],
    ],
    changed: ['A\tlib/Roman.pm'],
  },
];
