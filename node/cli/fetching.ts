import type { Client } from '../api/client.ts';
import type { TaskDetail } from '../api/objects.ts';
import type { Session } from './session.ts';

/** Fetches what a task gave, with a bar where that takes more than a second. */
export class Fetching {
  readonly client: Client;
  readonly #meter: ReturnType<Session['voice']['meter']>;

  constructor(session: Session, { bundle, artifacts }: TaskDetail) {
    const what = 'fetching the result';
    const total = artifacts.reduce((sum, { bytes }) => sum + bytes, bundle?.bytes ?? 0);
    const meter = session.voice.meter(what);
    this.#meter = meter;
    let done = 0;
    this.client = session.client(null, (bytes) => {
      done += bytes;
      meter?.update({ what, done, total, unit: 'bytes' });
    });
  }

  [Symbol.dispose](): void {
    this.#meter?.end();
  }
}
