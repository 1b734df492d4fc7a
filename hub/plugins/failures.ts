import { z } from 'zod';
import type { LogEvent } from '../../ledger/lines/events.ts';
import {
  classKey,
  classOf,
  type FailurePattern,
  type Failures,
  type FrozenClass,
  failuresReducer,
  frozenMax,
} from '../../ledger/state/failures.ts';
import { inTime, jsonBody } from '../../node/api/http.ts';
import type { FailuresObject } from '../../node/api/objects.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { need } from '../api/rights.ts';
import type { PluginView } from '../core/plugin.ts';
import type { HubPlugin } from './plugin.ts';

type View = PluginView<Failures>;

/** Tasks of a class that fail in a row by their own fault before it is frozen: more than a person would send by mistake. */
export const classFailuresMax = 20;
/** Frozen classes that a status names. */
const namedMax = 5;

const thawBody = z.strictObject({ class: z.string().regex(/^[0-9a-f]{10}$/, 'a class is 10 hex digits') });

/** What failures have in common, and classes of tasks that fail again and again: those wait for a person. */
export const failures: HubPlugin<Failures> = {
  name: failuresReducer.name,
  version: failuresReducer.version,
  events: ['class.frozen', 'class.thawed'],

  next: ({ own }) =>
    [...own.inRow]
      .filter(([key, { failures }]) => failures >= classFailuresMax && !own.frozen.has(key))
      .slice(0, Math.max(0, frozenMax - own.frozen.size))
      .map(([key, { of, failures }], place) => ({
        object: key,
        step: `freeze ${own.freezes + place}`,
        event: { type: 'class.frozen', body: { ...of, failures } },
      })),

  park({ own }, task) {
    // What was begun goes on: its retries are bounded.
    if (own.frozen.size === 0 || task.executions > 0) return null;
    const frozen = own.frozen.get(classKey(classOf(task.spec)));
    return frozen === undefined
      ? null
      : `its class is frozen, ${frozenWords(frozen)}; mesh-hub failures thaw ${frozen.id} lets it go`;
  },

  overview({ own }) {
    const frozen = [...own.frozen.values()];
    const needs = frozen.slice(0, namedMax).map((one) => ({
      what: `new tasks wait of ${frozenWords(one)}`,
      command: `mesh-hub failures thaw ${one.id}`,
    }));
    const more = frozen.length - needs.length;
    if (more > 0)
      needs.push({ what: `${more} more classes of tasks are frozen`, command: 'mesh-hub failures' });
    return { needs };
  },

  reads: {
    list: { right: 'read', body: z.null(), answer: (view) => failuresObject(view) },
  },
  writes: {
    thaw: {
      right: 'operate',
      body: thawBody,
      decide({ own }, asked, by): LogEvent[] {
        const { class: id } = asked as z.infer<typeof thawBody>;
        const found = [...own.frozen.values()].find((one) => one.id === id);
        if (found !== undefined) {
          const { kind, repository, word } = found;
          return [{ type: 'class.thawed', body: { kind, repository, word, by } }];
        }
        throw new SuperfleetError('SF_NOT_FOUND', `no class ${id} is frozen`, {
          expected: [...own.frozen.values()].map((one) => one.id).join(', ') || 'none is',
          got: id,
          hint: 'mesh-hub failures',
        });
      },
      answer: (view) => failuresObject(view),
    },
  },

  routes(app, port) {
    app.get('/v1/failures', async (context) => {
      need(port, context, 'read');
      const read = { op: 'plugin.read', plugin: 'failures', verb: 'list', body: null } as const;
      return context.json((await inTime(port.request(read, context.get('by'), null))) as object);
    });
    app.post('/v1/failures/thaw', async (context) => {
      need(port, context, 'operate');
      const body = await jsonBody(context, thawBody);
      const write = { op: 'plugin.write', plugin: 'failures', verb: 'thaw', body } as const;
      const answer = port.request(write, context.get('by'), context.get('correlation'));
      return context.json((await inTime(answer)) as object);
    });
  },
};

/** Of which class, for people. */
const classWords = ({ kind, repository, word }: Pick<FrozenClass, 'kind' | 'repository' | 'word'>): string =>
  `${kind}${word === '' ? '' : ` “${word}”`}${repository === null ? '' : ` on ${repository.name}`}`;

const frozenWords = (one: FrozenClass): string =>
  `${classWords(one)}: ${one.failures} tasks of it failed in a row by their own fault`;

function failuresObject({ own, state }: View): FailuresObject {
  const nodes = (peers: readonly string[]): FailuresObject['items'][number]['members'] =>
    peers.map((id) => ({ id, name: state.members.byPeer.get(id)?.name ?? null }));
  const of = ({ members, ...rest }: FailurePattern): FailuresObject['items'][number] => ({
    ...rest,
    members: nodes(members),
  });
  return {
    items: [...own.patterns.values()].reverse().map(of),
    next: null,
    frozen: [...own.frozen.values()].reverse().map(frozenOf),
  };
}

const frozenOf = ({
  id,
  kind,
  repository,
  word,
  failures,
  at,
}: FrozenClass): FailuresObject['frozen'][number] => ({
  id,
  kind,
  repository: repository?.name ?? null,
  word,
  failures,
  at,
});
