import type { FirewallFacts } from './facts.ts';

/** The rules of a machine as `nft -j list ruleset` has them: `{nftables: [{chain}, {rule}, {set}, …]}`. */
export interface Ruleset {
  nftables: Record<string, unknown>[];
}

/** A first packet of a conversation, over IPv4 and not over loopback. */
export interface Packet {
  hook: 'input' | 'output';
  protocol: 'tcp' | 'udp';
  port: number;
  /** Where it is sent, where that is known. */
  destination?: string;
}

/** A base chain that surely drops a packet. */
export interface BlockingChain {
  family: string;
  table: string;
  chain: string;
}

interface Rule {
  family: string;
  table: string;
  chain: string;
  expr: unknown[];
}

interface Chain {
  family: string;
  table: string;
  name: string;
  type?: string;
  hook?: string;
  policy?: string;
}

type Truth = true | false | 'unknown';
/** Chains that call chains are followed so deep; the kernel allows 16. */
const DEPTH_MAX = 16;

/**
 * Pure: the chains that drop this packet for sure. A rule that rests on what cannot be known beforehand (who sends, how
 * often) neither blocks nor opens: where one before the drop might accept, nothing is said.
 */
export function blockingChains(ruleset: Ruleset, packet: Packet): BlockingChain[] {
  const chains = ruleset.nftables.flatMap((item) => (isChain(item.chain) ? [item.chain] : []));
  const rules = ruleset.nftables.flatMap((item) => (isRule(item.rule) ? [item.rule] : []));
  const sets = new Map(
    ruleset.nftables.flatMap((item) => {
      const set = item.set as { family?: string; table?: string; name?: string; elem?: unknown } | undefined;
      return set === undefined ? [] : [[`${set.family} ${set.table} @${set.name}`, set.elem ?? []] as const];
    }),
  );
  const families = new Set(['ip', 'inet']);
  return chains
    .filter((chain) => chain.hook === packet.hook && chain.type === 'filter' && families.has(chain.family))
    .filter((chain) => {
      const walk = new Walk(rules, sets, packet);
      const end = walk.through(chain, chain.name, true, 0) ?? chain.policy ?? 'accept';
      return end === 'drop' && !walk.mayAccept;
    })
    .map(({ family, table, name }) => ({ family, table, chain: name }));
}

class Walk {
  readonly #rules: Rule[];
  readonly #sets: Map<string, unknown>;
  readonly #packet: Packet;
  /** A rule before the end might have accepted the packet. */
  mayAccept = false;

  constructor(rules: Rule[], sets: Map<string, unknown>, packet: Packet) {
    this.#rules = rules;
    this.#sets = sets;
    this.#packet = packet;
  }

  /** Where the packet ends in a chain; null: the chain has nothing to say about it. */
  through(of: Chain | Rule, name: string, certain: boolean, depth: number): 'accept' | 'drop' | null {
    if (depth > DEPTH_MAX) return null;
    for (const rule of this.#rules) {
      if (rule.family !== of.family || rule.table !== of.table || rule.chain !== name) continue;
      const holds = this.#holds(rule);
      if (holds === false) continue;
      const sure = certain && holds === true;
      const verdict = verdictOf(rule.expr);
      if (verdict === 'return' && sure) return null;
      const end =
        verdict === 'accept' || verdict === 'drop'
          ? verdict
          : typeof verdict === 'object' && verdict !== null
            ? this.through(rule, verdict.target, sure, depth + 1)
            : null;
      if (end === null) {
        if (sure && typeof verdict === 'object' && verdict?.goes === true) return null;
        continue;
      }
      if (sure) return end;
      if (end === 'accept') this.mayAccept = true;
    }
    return null;
  }

  #holds(rule: Rule): Truth {
    let all: Truth = true;
    for (const statement of rule.expr as Record<string, unknown>[]) {
      const truth: Truth =
        'match' in statement
          ? this.#matches(statement.match as Match, rule)
          : 'xt' in statement || 'limit' in statement || 'queue' in statement
            ? 'unknown'
            : true;
      if (truth === false) return false;
      if (truth === 'unknown') all = 'unknown';
    }
    return all;
  }

  #matches({ op, left, right }: Match, rule: Rule): Truth {
    const value = this.#value(left);
    if (value === 'unknown' || value === 'other') return value === 'other' ? op === '!=' : 'unknown';
    const within = this.#within(value, right, rule);
    if (within === 'unknown') return within;
    if (op === '==' || op === 'in') return within;
    if (op === '!=') return !within;
    const [mine, theirs] = [Number(value), Number(right)];
    if (Number.isNaN(mine) || Number.isNaN(theirs)) return 'unknown';
    return (
      { '<': mine < theirs, '>': mine > theirs, '<=': mine <= theirs, '>=': mine >= theirs }[op] ?? 'unknown'
    );
  }

  /** What the packet has there; `other`: it has no such thing, or never what a rule names. */
  #value(left: Match['left']): string | number {
    const { protocol, port, destination } = this.#packet;
    const { meta, payload, ct } = left;
    if (meta?.key === 'l4proto') return protocol;
    if (meta?.key === 'nfproto') return 'ipv4';
    if (meta?.key === 'iifname' || meta?.key === 'iif' || meta?.key === 'oifname' || meta?.key === 'oif')
      return 'a device';
    if (ct?.key === 'state') return 'new';
    if (payload === undefined) return 'unknown';
    if (payload.protocol === 'th' || payload.protocol === protocol)
      return payload.field === 'dport' ? port : 'unknown';
    if (payload.protocol === 'ip' && payload.field === 'protocol') return protocol;
    if (payload.protocol === 'ip' && payload.field === 'daddr') return destination ?? 'unknown';
    return payload.protocol === 'ip' || payload.protocol === 'ether' ? 'unknown' : 'other';
  }

  #within(value: string | number, right: unknown, rule: Rule): Truth {
    // Which device it comes by is not known; only that it is not loopback.
    if (value === 'a device') return right === 'lo' ? false : 'unknown';
    if (typeof right === 'string' && right.startsWith('@')) {
      return this.#within(
        value,
        { set: this.#sets.get(`${rule.family} ${rule.table} ${right}`) ?? null },
        rule,
      );
    }
    if (Array.isArray(right)) return anyOf(right.map((one) => this.#within(value, one, rule)));
    if (typeof right !== 'object' || right === null) return String(right) === String(value);
    const { set, range, prefix, elem } = right as Record<string, unknown>;
    if (Array.isArray(set)) return this.#within(value, set, rule);
    if (elem !== undefined) return this.#within(value, (elem as { val?: unknown }).val, rule);
    if (Array.isArray(range) && typeof value === 'number')
      return value >= Number(range[0]) && value <= Number(range[1]);
    if (prefix !== undefined && typeof value === 'string') {
      const { addr, len } = prefix as { addr: string; len: number };
      return inNet(value, addr, len);
    }
    return 'unknown';
  }
}

interface Match {
  op: string;
  left: {
    meta?: { key: string };
    payload?: { protocol?: string; field?: string };
    ct?: { key: string };
  };
  right: unknown;
}

const anyOf = (truths: Truth[]): Truth =>
  truths.includes(true) ? true : truths.includes('unknown') ? 'unknown' : false;

const number = (address: string): number =>
  address.split('.').reduce((sum, part) => sum * 256 + Number(part), 0);

function inNet(address: string, net: string, bits: number): Truth {
  if (!/^\d+\.\d+\.\d+\.\d+$/.test(address) || !/^\d+\.\d+\.\d+\.\d+$/.test(net)) return 'unknown';
  const size = 2 ** (32 - bits);
  return Math.floor(number(address) / size) === Math.floor(number(net) / size);
}

type Verdict = 'accept' | 'drop' | 'return' | { target: string; goes: boolean } | null;

function verdictOf(expr: unknown[]): Verdict {
  for (const statement of expr as Record<string, unknown>[]) {
    if ('accept' in statement) return 'accept';
    if ('drop' in statement || 'reject' in statement) return 'drop';
    if ('return' in statement) return 'return';
    const called = (statement.jump ?? statement.goto) as { target?: unknown } | undefined;
    if (typeof called?.target === 'string') return { target: called.target, goes: 'goto' in statement };
  }
  return null;
}

const isRule = (value: unknown): value is Rule =>
  typeof value === 'object' && value !== null && Array.isArray((value as { expr?: unknown }).expr);
const isChain = (value: unknown): value is Chain =>
  typeof value === 'object' && value !== null && typeof (value as { name?: unknown }).name === 'string';

/** Pure: the lines that let this packet through, for what manages the rules here; `chains` are those that drop it. */
export function openingLines(
  { manager }: Pick<FirewallFacts, 'manager'>,
  { hook, protocol, port }: Packet,
  chains: readonly BlockingChain[],
  elevate: 'sudo ' | '',
): string[] {
  if (manager === 'ufw') {
    return [`${elevate}ufw allow ${hook === 'output' ? 'out ' : ''}${port}/${protocol}`];
  }
  if (manager === 'firewalld' && hook === 'input') {
    const what = port === 5353 ? '--add-service=mdns' : `--add-port=${port}/${protocol}`;
    return [`${elevate}firewall-cmd --permanent ${what} && ${elevate}firewall-cmd --reload`];
  }
  const own = chains.map(({ family, table, chain }) =>
    manager === 'iptables'
      ? `${elevate}iptables -I ${chain} -p ${protocol} --dport ${port} -j ACCEPT`
      : `${elevate}nft insert rule ${family} ${table} ${chain} ${protocol} dport ${port} accept`,
  );
  return own;
}

/** Pure: `iptables -S` of the filter table, in the form of `nft -j list ruleset`. */
export function fromIptables(text: string): Ruleset {
  const where = { family: 'ip', table: 'filter' };
  const nftables = text.split('\n').flatMap((line): Record<string, unknown>[] => {
    const words = line.trim().split(/\s+/);
    const [flag, name = '', policy = ''] = words;
    if (flag === '-P' || flag === '-N') {
      const hook = { INPUT: 'input', OUTPUT: 'output', FORWARD: 'forward' }[name];
      const base = hook === undefined ? {} : { type: 'filter', hook, policy: policy.toLowerCase() };
      return [{ chain: { ...where, name, ...base } }];
    }
    return flag === '-A' ? [{ rule: { ...where, chain: name, expr: expressions(words.slice(2)) } }] : [];
  });
  return { nftables };
}

function expressions(words: string[]): unknown[] {
  const expr: unknown[] = [];
  const match = (left: Match['left'], right: unknown, not: boolean): void =>
    void expr.push({ match: { op: not ? '!=' : '==', left, right } });
  let not = false;
  for (let at = 0; at < words.length; at++) {
    const [word = '', value = ''] = words.slice(at, at + 2);
    if (word === '!') {
      not = true;
      continue;
    }
    at++;
    if (word === '-p') match({ meta: { key: 'l4proto' } }, value, not);
    else if (word === '--dport' || word === '--dports') {
      const parts = value.split(',').map((part) => {
        const [from, to = from] = part.split(':').map(Number);
        return { range: [from, to] };
      });
      match({ payload: { protocol: 'th', field: 'dport' } }, { set: parts }, not);
    } else if (word === '-i' || word === '-o') match({ meta: { key: 'iifname' } }, value, not);
    else if (word === '-d') {
      const [addr, len = '32'] = value.split('/');
      match({ payload: { protocol: 'ip', field: 'daddr' } }, { prefix: { addr, len: Number(len) } }, not);
    } else if (word === '--ctstate' || word === '--state')
      match({ ct: { key: 'state' } }, value.toLowerCase().split(','), not);
    else if (word === '-j' || word === '-g') {
      const target = { ACCEPT: 'accept', DROP: 'drop', REJECT: 'reject', RETURN: 'return' }[value];
      if (target !== undefined) expr.push({ [target]: null });
      else expr.push({ [word === '-j' ? 'jump' : 'goto']: { target: value } });
      // What follows says how it rejects or logs.
      break;
    } else if (word === '-m') {
      if (!/^(tcp|udp|conntrack|state|multiport|comment)$/.test(value)) expr.push({ xt: null });
    } else if (word !== '--comment' && word !== '--reject-with') expr.push({ xt: null });
    not = false;
  }
  return expr;
}
