import type { Context } from 'hono';
import type { ApiEnv } from '../../node/api/http.ts';
import type { HubPort, Right } from './port.ts';

/** Answers only where the asker has the right; `SF_REFUSED` otherwise. */
export function need(port: HubPort, context: Context<ApiEnv>, right: Right): void {
  port.need(context.get('by'), right);
}

/** A list answer of the core, as an array or as `{items}`. */
export function itemsOf(answer: unknown): unknown[] {
  if (Array.isArray(answer)) return answer;
  const items = (answer as { items?: unknown } | null)?.items;
  return Array.isArray(items) ? items : [];
}
