import { SuperfleetError } from '../../protocol/errors.ts';
import type { Entry, KnownEntry } from '../lines/entry.ts';
import { EVENT_BODIES, isEventType } from '../lines/events.ts';
import { upgraded } from '../lines/upgrade.ts';
import { StateError } from './errors.ts';
import { type Invites, invitesReducer } from './invites.ts';
import { type Members, membersReducer } from './members.ts';
import { type MeshFacts, meshReducer } from './mesh.ts';
import { PLUGIN_REDUCERS, type PluginStates, readersOf } from './plugin-reducers.ts';
import { defaultBounds, type Reducer, type StateBounds } from './reducer.ts';
import { type Repositories, repositoriesReducer } from './repositories.ts';
import { type Secrets, secretsReducer } from './secrets.ts';
import type { Tasks } from './task-set.ts';
import { tasksReducer } from './tasks.ts';
import { type Trust, trustReducer } from './trust.ts';

/** The replayed state of a mesh: `reduce(entries)`, the same on every machine (design §3). */
export interface MeshState {
  mesh: MeshFacts;
  invites: Invites;
  members: Members;
  tasks: Tasks;
  repositories: Repositories;
  secrets: Secrets;
  trust: Trust;
  /** What plugins keep, each under its name. */
  plugins: PluginStates;
}

type Part = Exclude<keyof MeshState, 'plugins'>;
type Reducers = { [K in Part]: Reducer<MeshState[K]> };

/** The reducers of what every mesh has, by the part of the state they keep. */
export const REDUCERS: Reducers = {
  mesh: meshReducer,
  invites: invitesReducer,
  members: membersReducer,
  tasks: tasksReducer,
  repositories: repositoriesReducer,
  secrets: secretsReducer,
  trust: trustReducer,
};
const NAMES = Object.keys(REDUCERS) as Part[];

/** The state as JSON, with the version of each reducer that made it. */
export type SavedState = Record<string, { version: number; state: unknown }>;

export function initialState(bounds: StateBounds = defaultBounds): MeshState {
  const parts = NAMES.map((name) => [name, REDUCERS[name].initial(bounds)]);
  const plugins = new Map(PLUGIN_REDUCERS.map(({ name, initial }) => [name, initial(bounds)]));
  return { ...Object.fromEntries(parts), plugins } as MeshState;
}

/** The entry in the newest form of its type, its body parsed, or null for a type this program does not know. Throws `SF_LOG_DAMAGED`. */
export function knownEntry(logged: Entry): KnownEntry | null {
  const entry = upgraded(logged);
  if (!isEventType(entry.type)) return null;
  const body = EVENT_BODIES[entry.type].safeParse(entry.body);
  if (body.success) return { ...entry, type: entry.type, body: body.data } as KnownEntry;
  throw new SuperfleetError('SF_LOG_DAMAGED', `entry ${entry.index} is no ${entry.type}`, {
    expected: `a body of the form of ${entry.type}`,
    got: body.error.issues.map((issue) => `${issue.path.join('.')}: ${issue.message}`).join('; '),
    hint: 'this program may be older than the one that wrote the log; otherwise compare the log with a replica',
  });
}

/** The same of an entry that a log gave out: its body has passed its schema already. */
export const parsedEntry = (entry: Entry): KnownEntry | null =>
  isEventType(entry.type) ? (entry as KnownEntry) : knownEntry(entry);

/** Applies one entry; `entry` must be the next. Mutates `state`. Null: of an unknown type, only counted. */
export function applyEntry(
  state: MeshState,
  entry: Omit<Entry, 'type' | 'body'>,
  known: KnownEntry | null,
): void {
  const { mesh } = state;
  if (entry.index !== mesh.size || entry.epoch < mesh.epoch || entry.time < mesh.time) {
    throw new SuperfleetError('SF_LOG_DAMAGED', `entry ${entry.index} is not the next one`, {
      expected: `index ${mesh.size}, an epoch from ${mesh.epoch}, a time from ${mesh.time}`,
      got: `index ${entry.index}, epoch ${entry.epoch}, time ${entry.time}`,
    });
  }
  if (known !== null) {
    if (entry.index === 0 && known.type !== 'mesh.created')
      throw new StateError(known, 'the log begins with it');
    // Each by name: half as long as a loop over them, whose one call can be made fast for none.
    state.mesh = meshReducer.reduce(state.mesh, known);
    state.invites = invitesReducer.reduce(state.invites, known);
    state.members = membersReducer.reduce(state.members, known);
    state.tasks = tasksReducer.reduce(state.tasks, known);
    state.repositories = repositoriesReducer.reduce(state.repositories, known);
    state.secrets = secretsReducer.reduce(state.secrets, known);
    state.trust = trustReducer.reduce(state.trust, known);
    const readers = readersOf(known.type);
    if (readers !== undefined) {
      for (const reducer of readers) {
        state.plugins.set(reducer.name, reducer.reduce(state.plugins.get(reducer.name), known, state));
      }
    }
  }
  mesh.size = entry.index + 1;
  mesh.epoch = entry.epoch;
  mesh.time = entry.time;
}

/** Replays entries on top of `state` (default: the empty one), which it mutates and returns. */
export function replay(entries: Iterable<Entry>, state: MeshState = initialState()): MeshState {
  for (const entry of entries) applyEntry(state, entry, knownEntry(entry));
  return state;
}

export function saveState(state: MeshState): SavedState {
  const parts = NAMES.map((name) => [name, { version: REDUCERS[name].version, state: saveOne(state, name) }]);
  const plugins = PLUGIN_REDUCERS.map(({ name, version, save }) => [
    name,
    { version, state: save(state.plugins.get(name)) },
  ]);
  return Object.fromEntries([...parts, ...plugins]) as SavedState;
}

const saveOne = <K extends Part>(state: MeshState, name: K): unknown => {
  const reducer: Reducer<MeshState[K]> = REDUCERS[name];
  return reducer.save(state[name]);
};

/**
 * The inverse of `saveState`; null where a reducer is missing or of another version, or where the state was kept under
 * other bounds: replay from the log then.
 */
export function loadState(saved: SavedState, bounds: StateBounds = defaultBounds): MeshState | null {
  const part = ({ name, version, load }: Reducer<unknown>): [string, unknown] | null => {
    const found = saved[name];
    return found?.version === version ? [name, load(found.state)] : null;
  };
  const parts = NAMES.map((name) => part(REDUCERS[name] as Reducer<unknown>));
  const plugins = PLUGIN_REDUCERS.map(part);
  if (parts.includes(null) || plugins.includes(null)) return null;
  const state = {
    ...Object.fromEntries(parts as [string, unknown][]),
    plugins: new Map(plugins as [string, unknown][]),
  } as unknown as MeshState;
  return state.tasks.endedMax === bounds.endedTasks ? state : null;
}
