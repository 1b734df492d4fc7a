import { BlockList, isIPv4, isIPv6 } from 'node:net';

/**
 * Addresses that are nobody's on the internet, or that stand for one of this machine or its neighbours: IANA's
 * special-purpose registries (RFC 6890 and its successors). What IPv6 carries of IPv4 is refused whole: no public host has
 * such an address only.
 */
const SPECIAL: readonly [address: string, bits: number][] = [
  ['0.0.0.0', 8],
  ['10.0.0.0', 8],
  ['100.64.0.0', 10],
  ['127.0.0.0', 8],
  ['169.254.0.0', 16],
  ['172.16.0.0', 12],
  ['192.0.0.0', 24],
  ['192.0.2.0', 24],
  ['192.31.196.0', 24],
  ['192.52.193.0', 24],
  ['192.88.99.0', 24],
  ['192.168.0.0', 16],
  ['192.175.48.0', 24],
  ['198.18.0.0', 15],
  ['198.51.100.0', 24],
  ['203.0.113.0', 24],
  ['224.0.0.0', 4],
  ['240.0.0.0', 4],
];

/** Of IPv6 only global unicast can be public, and of that not what follows: TEREDO, ORCHID, documentation, 6to4, SRv6 … */
const GLOBAL_UNICAST: readonly [address: string, bits: number] = ['2000::', 3];
const SPECIAL_IPV6: readonly [address: string, bits: number][] = [
  ['2001::', 23],
  ['2001:db8::', 32],
  ['2002::', 16],
  ['2620:4f:8000::', 48],
  ['3fff::', 20],
];

const special = new BlockList();
for (const [address, bits] of SPECIAL) special.addSubnet(address, bits, 'ipv4');
const global = new BlockList();
global.addSubnet(...GLOBAL_UNICAST, 'ipv6');
const notGlobal = new BlockList();
for (const [address, bits] of SPECIAL_IPV6) notGlobal.addSubnet(address, bits, 'ipv6');

/** Whether an address is a public one. What is no address is not; neither is one with a zone (`fe80::1%eth0`). */
export function isPublicAddress(address: string): boolean {
  if (address.includes('%')) return false;
  if (isIPv4(address)) return !special.check(address, 'ipv4');
  if (isIPv6(address)) return global.check(address, 'ipv6') && !notGlobal.check(address, 'ipv6');
  return false;
}

/** One form for each address, for comparing; null for what is no address. */
export function plainAddress(address: string): string | null {
  if (isIPv4(address)) return address;
  if (!isIPv6(address) || address.includes('%')) return null;
  return new URL(`http://[${address}]/`).hostname.slice(1, -1);
}
