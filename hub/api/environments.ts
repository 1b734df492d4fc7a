import type { Hono } from 'hono';
import { z } from 'zod';
import { type ApiEnv, inTime, jsonBody } from '../../node/api/http.ts';
import { SuperfleetError } from '../../protocol/errors.ts';
import { sha256Hex, taskId } from '../../protocol/ids.ts';

const environmentBody = z.strictObject({ task: taskId, digest: sha256Hex });
/** A large one is packed in some minutes. */
const packMs = 15 * 60_000;

/** What gives members what this machine prepared. */
export interface EnvironmentGiver {
  give(
    peer: string,
    wanted: { task: string; digest: string },
  ): Promise<{ blob: string; bytes: number } | null>;
}

/**
 * `POST /v1/environments {task, digest}` answers `{environment: {blob, bytes} | null}` to a member, for a task of which it has an open
 * lease: no role is asked for, the lease is the right.
 */
export function addEnvironmentRoute(app: Hono<ApiEnv>, giver: EnvironmentGiver): void {
  app.post('/v1/environments', async (context) => {
    const by = context.get('by');
    if (by.kind !== 'peer') throw new SuperfleetError('SF_REFUSED', 'environments are given to members only');
    const wanted = await jsonBody(context, environmentBody);
    return context.json({ environment: await inTime(giver.give(by.peer, wanted), packMs) });
  });
}
