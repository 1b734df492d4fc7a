import type { Facts } from './facts.ts';
import type { Check, Finding } from './finding.ts';
import { MACHINE_CHECKS } from './table-machine.ts';
import { NETWORK_CHECKS } from './table-network.ts';

/** Everything the doctor looks at, in the order in which it is told. */
export const CHECKS: readonly Check[] = [...MACHINE_CHECKS, ...NETWORK_CHECKS];

/** Pure: what to make of the facts. */
export const findingsOf = (facts: Facts): Finding[] => CHECKS.flatMap((check) => check.find(facts));
