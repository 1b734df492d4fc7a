import { isIP } from 'node:net';
import { z } from 'zod';
import type { AllowedHost } from './admission.ts';
import { hostMatches, isHostPattern } from './host-pattern.ts';

const hostsMax = 64;

const pattern = z
  .string()
  .refine(isHostPattern, 'a host in lower case such as registry.example.org, "*.example.org", or an address');

/** What a sandbox has in these places is its own, or the system's. */
const TAKEN =
  /^\/(bin|cache|dev|etc|git|in|io|lib\w*|new|proc|run|sbin|sys|tmp|usr|var|workspace|home\/sandbox)(\/|$)/;

const isToolchain = (path: string): boolean =>
  /^(\/[^/\0]+)+$/.test(path) &&
  !path.split('/').some((name) => name === '.' || name === '..') &&
  path !== '/home' &&
  !TAKEN.test(path);

const portWords = 'a port from 1 to 65535';
const port = z.int(portWords).min(1, portWords).max(65_535, portWords);

/** Hosts as an owner writes them. */
export const hostsConfig = z
  .array(
    z.union(
      [
        pattern,
        z.strictObject({
          host: pattern,
          ports: z.array(port).min(1).max(16).optional(),
          addresses: z
            .array(z.string().refine((text) => isIP(text) !== 0, 'an IP address'))
            .min(1)
            .max(16)
            .optional(),
        }),
      ],
      'a host in lower case such as registry.example.org, or {"host": …, "ports": [443], "addresses": ["192.168.1.9"]}',
    ),
  )
  .max(hostsMax)
  .default([]);

/** What the owner of a machine allows its tasks: `environment` of `config.json`. */
export const environmentConfig = z.strictObject({
  /** Hosts that may be reached while dependencies are prepared, and by a model for pages, as far as the repository asks for them. @default [] */
  hosts: hostsConfig,
  /** Folders that every task sees at their own path, such as toolchains outside `/usr`. @default [] */
  readOnly: z
    .array(
      z
        .string()
        .max(512)
        .refine(
          isToolchain,
          'the full path of a folder such as /opt/toolchains, not of what a sandbox has of its own (/usr, /etc, /tmp, /var …)',
        ),
    )
    .max(16)
    .default([]),
});

/** As the proxy's rules. */
export const allowedHosts = ({ hosts }: Pick<z.output<typeof environmentConfig>, 'hosts'>): AllowedHost[] =>
  hosts.map((each) => {
    if (typeof each === 'string') return { host: each };
    const { host, ports, addresses } = each;
    return {
      host,
      ...(ports === undefined ? {} : { ports }),
      ...(addresses === undefined ? {} : { addresses }),
    };
  });

/** Stands among what is lacking where no host at all is allowed. */
export const someRegistry = 'the registry of its packages';

/**
 * What a repository may reach: what the owner allows and it asks for, the narrower of the two patterns. `lacking` is what it
 * asks for that no rule of the owner's covers whole. Null asks for the registries of its tools: which they are here is for the owner to
 * say, so it is given what he allows.
 */
export function reachable(
  owner: readonly AllowedHost[],
  needed: readonly string[] | null,
): { allowed: AllowedHost[]; lacking: string[] } {
  if (needed === null) return { allowed: [...owner], lacking: owner.length === 0 ? [someRegistry] : [] };
  const allowed = needed.flatMap((need) =>
    owner.flatMap((rule): AllowedHost[] => {
      if (covers(rule.host, need)) return [{ ...rule, host: need }];
      return covers(need, rule.host) ? [rule] : [];
    }),
  );
  return { allowed, lacking: needed.filter((need) => !owner.some(({ host }) => covers(host, need))) };
}

/** Whether every host that `inner` names is one that `outer` does; a name covers no pattern. */
const covers = (outer: string, inner: string): boolean =>
  outer === inner || (outer.startsWith('*.') && hostMatches(outer, inner.replace(/^\*\./, 'any.')));
