import type { LogTip } from '../../protocol/log-sync.ts';
import type { Host } from '../network/host.ts';
import type { Neighbours } from '../network/neighbours.ts';
import { askTip } from './follow.ts';

/** One that has lost its founder asks so often. */
const EVERY_MS = 3_000;
/** One neighbour answers within this. */
const ANSWER_MS = 5_000;
/** Asked in one round; where there are more, others come in the next. */
const ASKED_MAX = 8;

export interface LookOptions {
  host: Host;
  mesh: string;
  neighbours: Pick<Neighbours, 'peers' | 'addresses'>;
  /** The founder answers this machine now: there is nobody to look for. */
  online(): boolean;
  /** What a neighbour has seen of the log; nothing of it is proved. */
  onTip(tip: LogTip): Promise<void>;
  /** @default 3 s */
  everyMs?: number;
}

/** While no founder answers, asks other members every few seconds what they know of the mesh. Answers with what ends it. */
export function lookForFounder(options: LookOptions): () => void {
  const { host, mesh, neighbours, online, onTip, everyMs = EVERY_MS } = options;
  const ending = new AbortController();
  let round = 0;
  let asking = false;
  const look = async (): Promise<void> => {
    if (asking || online()) return;
    asking = true;
    try {
      const peers = neighbours.peers().filter((peer) => peer !== host.peer);
      const begin = peers.length === 0 ? 0 : (round * ASKED_MAX) % peers.length;
      round += 1;
      const asked = [...peers.slice(begin), ...peers.slice(0, begin)].slice(0, ASKED_MAX);
      await Promise.allSettled(
        asked.map(async (peer) => {
          const signal = AbortSignal.any([ending.signal, AbortSignal.timeout(ANSWER_MS)]);
          const connection = await host.dial(peer, neighbours.addresses(peer), signal);
          await onTip(await askTip(connection, mesh, signal));
        }),
      );
    } finally {
      asking = false;
    }
  };
  const timer = setInterval(() => void look(), everyMs);
  return () => {
    clearInterval(timer);
    ending.abort(new Error('this machine is stopping'));
  };
}
