import type { Context } from 'hono';
import type { ApiEnv } from '../../node/api/http.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import type { HubPort, Right } from './port.ts';

/** Answers only where the asker has the right. */
export function need(port: HubPort, context: Context<ApiEnv>, right: Right): void {
  const by = context.get('by');
  if (!port.allowed(by, right)) {
    throw new SuperfleetError('SF_REFUSED', 'the membership has no such right', {
      expected: `the right to ${right}`,
      got: by.kind === 'peer' ? by.peer : by.kind,
      hint: 'the operator gives roles with the invite or the approval',
    });
  }
}

/** A list answer of the core, as an array or as `{items}`. */
export function itemsOf(answer: unknown): unknown[] {
  if (Array.isArray(answer)) return answer;
  const items = (answer as { items?: unknown } | null)?.items;
  return Array.isArray(items) ? items : [];
}
