import type { Hono } from 'hono';
import type { ApiEnv } from '../../node/api/http.ts';
import type { HubPort } from '../api/port.ts';
import type { CorePlugin } from '../core/plugin.ts';

/** A plugin whole: what it decides (`CorePlugin`), and what it answers over `/v1`. */
export interface HubPlugin<S = unknown> extends CorePlugin<S> {
  /** Adds its routes, all of them under `/v1/NAME`. They ask the core by the operations `plugin.read` and `plugin.write`. */
  routes?(app: Hono<ApiEnv>, port: HubPort): void;
}
