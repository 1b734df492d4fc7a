/** Pictures of figures as SVG: two forms are all that is needed, and no library draws them without a browser in fewer lines than this. */

/** A logarithmic axis. `ticks` are where it is marked, ascending; the first and the last are its ends. Values lie between those. */
export interface Axis {
  label: string;
  ticks: readonly number[];
}

export interface Series {
  name: string;
  /** By x, ascending. */
  points: readonly (readonly [x: number, y: number])[];
}

export interface Range {
  name: string;
  from: number;
  to: number;
}

const WIDTH = 720;
const LINE_HEIGHT = 16;
const MARGIN = { top: 44, right: 150, bottom: 52, left: 70 };
/** Told apart in print, on screens and by those who see few colours (Okabe and Ito, 2008). */
const COLOURS = ['#0072b2', '#d55e00', '#009e73', '#cc79a7'];

/** A line for each series. `bound`: what they are held against, as a broken line. */
export function linePlot(
  title: string,
  x: Axis,
  y: Axis,
  series: readonly Series[],
  bound: { name: string; at: number } | null = null,
): string {
  const height = 400;
  const across = along(x, MARGIN.left, WIDTH - MARGIN.right);
  const up = along(y, height - MARGIN.bottom, MARGIN.top);
  const right = WIDTH - MARGIN.right;
  const drawn = [
    ...x.ticks.map((at) => gridLine(across(at), MARGIN.top, across(at), height - MARGIN.bottom)),
    ...x.ticks.map((at) => words(across(at), height - MARGIN.bottom + 18, numeral(at), 'middle')),
    ...y.ticks.map((at) => gridLine(MARGIN.left, up(at), right, up(at))),
    ...y.ticks.map((at) => words(MARGIN.left - 8, up(at) + 4, numeral(at), 'end')),
    words((MARGIN.left + right) / 2, height - 12, x.label, 'middle'),
    `<g transform="rotate(-90)">${words(-(MARGIN.top + height - MARGIN.bottom) / 2, 18, y.label, 'middle')}</g>`,
  ];
  if (bound !== null) {
    const at = up(bound.at);
    drawn.push(
      `<path d="M${MARGIN.left} ${at}H${right}" stroke="#000" stroke-dasharray="6 5"/>`,
      words(right + 8, at + 4, bound.name, 'start'),
    );
  }
  const names = apart(series.map(({ points }) => up(points.at(-1)?.[1] ?? y.ticks[0]!)));
  for (const [nth, { name, points }] of series.entries()) {
    const colour = COLOURS[nth % COLOURS.length]!;
    const places = points.map(([px, py]) => [across(px), up(py)] as const);
    const path = places.map(([px, py]) => `${round(px)} ${round(py)}`).join('L');
    drawn.push(
      `<path d="M${path}" fill="none" stroke="${colour}" stroke-width="2.5"/>`,
      ...places.map(([px, py]) => dot(px, py, colour)),
      words(right + 8, names[nth]! + 4, name, 'start', colour),
    );
  }
  return picture(title, height, drawn);
}

/** A bar from one value to another for each, such as from the median to the longest. */
export function rangePlot(title: string, x: Axis, ranges: readonly Range[]): string {
  const rowHeight = 34;
  const left = 210;
  const bottom = MARGIN.top + ranges.length * rowHeight;
  const across = along(x, left, WIDTH - 40);
  const drawn = [
    ...x.ticks.map((at) => gridLine(across(at), MARGIN.top, across(at), bottom)),
    ...x.ticks.map((at) => words(across(at), bottom + 18, numeral(at), 'middle')),
    words((left + WIDTH - 40) / 2, bottom + 40, x.label, 'middle'),
  ];
  for (const [nth, { name, from, to }] of ranges.entries()) {
    const y = MARGIN.top + (nth + 0.5) * rowHeight;
    const [begin, end] = [across(from), across(to)];
    drawn.push(
      words(left - 12, y + 4, name, 'end'),
      `<path d="M${round(begin)} ${y}H${round(end)}" stroke="${COLOURS[0]}" stroke-width="7" stroke-opacity="0.35"/>`,
      dot(begin, y, COLOURS[0]!),
      dot(end, y, COLOURS[1]!),
    );
  }
  return picture(title, bottom + MARGIN.bottom, drawn);
}

/** Where a value lies between two places. Throws a `RangeError` for one that is off the axis: it would be drawn where nobody reads it. */
function along({ label, ticks }: Axis, begin: number, end: number): (value: number) => number {
  const [low, high] = [ticks[0]!, ticks.at(-1)!];
  if (!(low > 0 && high > low)) throw new RangeError(`the ticks of «${label}» do not rise from above 0`);
  return (value) => {
    if (!(value >= low && value <= high))
      throw new RangeError(`${value} is not on the axis «${label}», ${low} to ${high}`);
    return begin + ((Math.log(value) - Math.log(low)) / (Math.log(high) - Math.log(low))) * (end - begin);
  };
}

/** The same places, moved as little downwards as it takes that no two names lie on each other. */
function apart(places: readonly number[]): number[] {
  const moved = [...places];
  let free = Number.NEGATIVE_INFINITY;
  for (const nth of places.map((_, at) => at).sort((a, b) => places[a]! - places[b]!)) {
    moved[nth] = Math.max(places[nth]!, free);
    free = moved[nth]! + LINE_HEIGHT;
  }
  return moved;
}

const round = (value: number): string => value.toFixed(1);
const numeral = (value: number): string => value.toLocaleString('en');
const escaped = (text: string): string => text.replace(/[&<>]/g, (one) => `&#${one.charCodeAt(0)};`);

const gridLine = (x1: number, y1: number, x2: number, y2: number): string =>
  `<path d="M${round(x1)} ${round(y1)}L${round(x2)} ${round(y2)}" stroke="#ddd"/>`;

const dot = (x: number, y: number, colour: string): string =>
  `<circle cx="${round(x)}" cy="${round(y)}" r="4.5" fill="${colour}"/>`;

const words = (x: number, y: number, text: string, anchor: string, colour = '#222'): string =>
  `<text x="${round(x)}" y="${round(y)}" text-anchor="${anchor}" fill="${colour}">${escaped(text)}</text>`;

/** On white, since who looks at it may have a dark page. */
const picture = (title: string, height: number, drawn: readonly string[]): string =>
  [
    `<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 ${WIDTH} ${height}" width="${WIDTH}" height="${height}" font-family="sans-serif" font-size="13" role="img">`,
    `<title>${escaped(title)}</title>`,
    '<rect width="100%" height="100%" fill="#fff"/>',
    `<text x="${WIDTH / 2}" y="24" text-anchor="middle" font-size="15" font-weight="bold" fill="#222">${escaped(title)}</text>`,
    ...drawn,
    '</svg>',
    '',
  ].join('\n');
