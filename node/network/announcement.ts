import { peerIdFromString } from '@libp2p/peer-id';
import { type Answer, decode, type Packet } from 'dns-packet';

/** The name our hosts go by on the LAN, so that other libp2p programs are not asked. */
export const SERVICE_TAG = '_superfleet._udp.local';

/** What an mDNS packet says of hosts of ours; `malformed`: it means to announce one and does not. */
export type Announcement =
  | { kind: 'announced'; peer: string; addresses: string[] }
  | { kind: 'malformed' }
  | { kind: 'another-program' }
  | { kind: 'question' };

const ADDRESSES_MAX = 64;

/** Pure: reads the bytes of one packet. Bytes that are no DNS at all are `malformed`. */
export function readAnnouncement(bytes: Uint8Array): Announcement {
  try {
    return announcementOf(decode(Buffer.from(bytes)));
  } catch {
    return { kind: 'malformed' };
  }
}

/** Pure: the same of a packet that was decoded. */
export function announcementOf(packet: Pick<Packet, 'type' | 'answers' | 'additionals'>): Announcement {
  if (packet.type === 'query') return { kind: 'question' };
  const answers = packet.answers ?? [];
  const names = answers.some(({ type, name }) => type === 'PTR' && name === SERVICE_TAG);
  if (!names) return { kind: 'another-program' };
  const addresses = [...answers, ...(packet.additionals ?? [])]
    .flatMap((answer) => textsOf(answer))
    .filter((text) => text.startsWith('dnsaddr='))
    .slice(0, ADDRESSES_MAX)
    .map((text) => text.slice('dnsaddr='.length));
  const peer = /\/p2p\/([^/]+)$/.exec(addresses[0] ?? '')?.[1];
  if (peer === undefined || !isPeer(peer)) return { kind: 'malformed' };
  return { kind: 'announced', peer, addresses };
}

function textsOf(answer: Answer): string[] {
  if (answer.type !== 'TXT') return [];
  return [answer.data].flat().map((part) => part.toString());
}

function isPeer(text: string): boolean {
  try {
    peerIdFromString(text);
    return true;
  } catch {
    return false;
  }
}
