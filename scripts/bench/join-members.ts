/**
 * A process of many members, started by `join.bench.ts` and `members.bench.ts`: real hosts that take no attempt, see
 * `light-member.ts`.
 */
import { generateKeyPair } from '@libp2p/crypto/keys';
import { createHost, type Host } from '../../node/network/host.ts';
import { IDLE_CAPACITY, lightMember } from './light-member.ts';

/** Joins under way at one time in this process: the founder lets 32 strangers in at once. */
const JOINS_AT_ONCE = Number(process.argv[4] ?? 12);

async function main(count: number, prefix: string): Promise<void> {
  const hosts: Host[] = [];
  for (let n = 0; n < count; n++) {
    const privateKey = await generateKeyPair('Ed25519');
    hosts.push(await createHost({ privateKey, listen: ['/ip4/127.0.0.1/tcp/0'], mdns: false }));
  }
  process.send?.({ event: 'made' });
  const { token } = await told<{ token: string }>();
  const stops: (() => Promise<void>)[] = [];
  let next = 0;
  const worker = async (): Promise<void> => {
    for (let n = next++; n < hosts.length; n = next++) {
      const stop = await lightMember({
        host: hosts[n]!,
        token,
        name: `${prefix}-${n}`,
        capacity: IDLE_CAPACITY,
        runner: () => ({ run: () => Promise.reject(new Error('no attempts here')) }),
        refused: (message) => process.send?.({ event: 'failed', message }),
      });
      stops.push(stop);
    }
  };
  await Promise.all(Array.from({ length: JOINS_AT_ONCE }, worker));
  process.send?.({ event: 'online' });
  await told();
  await Promise.all(stops.map((stop) => stop()));
  process.disconnect();
}

const told = <T>(): Promise<T> =>
  new Promise((resolve) => process.once('message', (message) => resolve(message as T)));

main(Number(process.argv[2]), process.argv[3] ?? 'member').catch((error: unknown) => {
  process.send?.({ event: 'failed', message: String(error) });
  process.exit(1);
});
