import { z } from 'zod';
import { frameOf, messageSchema } from './frame.ts';
import { correlationId, count } from './ids.ts';

/**
 * `/superfleet/infer/1.0.0`: a member opens a stream to one with models and asks for the list of them, or for one answer. That
 * comes as it is generated, within the bytes granted, until `end` or `error`. Leaving the stream stops the model.
 */
export const INFER_PROTOCOL = '/superfleet/infer/1.0.0';

/** A request: a prompt of some 500,000 tokens fits. */
export const inferRequestBytesMax = 2 * 1024 * 1024;
/** Bytes of an answer sent and not yet taken. */
export const inferCreditBytes = 256 * 1024;
/** A frame of an answer, and so one call in it. */
export const inferFrameBytesMax = 512 * 1024;
/** Characters in one event; longer text comes in several. JSON may write each as six bytes. */
export const inferTextMax = 32 * 1024;
/** Without an event the server says so often that it is still there, and is given up after so long in silence. */
export const inferAliveMs = 10_000;
export const inferSilenceMs = 45_000;
/** A server that says no more than that is given up after so long; a model that reads a long prompt takes minutes. */
export const inferWordMs = 600_000;
/** Models that one member lists. */
export const inferModelsMax = 256;

const json = z.record(z.string(), z.unknown());
/** As servers list them, and as receipts and the log can name them. */
export const listedModelName = z
  .string()
  .max(128)
  .regex(/^[^\p{C}]+$/u, 'the name of a model: 1–128 printable characters');
const text = z.string();
const name = z.string().max(256);
const call = z.object({ id: name, name, arguments: json.nullable(), text });

const message = z.discriminatedUnion('role', [
  z.object({ role: z.literal('system'), content: text }),
  z.object({ role: z.literal('user'), content: text }),
  z.object({ role: z.literal('assistant'), content: text, calls: z.array(call).max(128) }),
  z.object({ role: z.literal('tool'), call: name, name, content: text }),
]);

/** What a model is asked: the shape of a brain's request. */
const inferChat = z.object({
  model: listedModelName,
  messages: z.array(message).min(1).max(4096),
  tools: z.array(z.object({ name, description: text, parameters: json })).max(128),
  format: json.nullable(),
  maxTokens: count.min(1).max(1_000_000),
  contextTokens: count.min(1).max(100_000_000).nullable(),
  temperature: z.number().min(0).max(10).optional(),
  keepAliveMs: count.max(86_400_000).optional(),
});
export type InferChat = z.infer<typeof inferChat>;

/** From who asks. */
export const inferRequest = z.discriminatedUnion('type', [
  z.object({ type: z.literal('list') }),
  z.object({ type: z.literal('chat'), correlation: correlationId, chat: inferChat }),
  z.object({ type: z.literal('grant'), bytes: count.min(1).max(inferCreditBytes) }),
]);
export type InferRequest = z.infer<typeof inferRequest>;
export const inferRequestSchema = messageSchema(inferRequest);

const fact = z.number().nonnegative().nullable();
const inferModel = z.object({
  name: listedModelName,
  contextTokens: fact,
  tools: z.boolean().nullable(),
  bytes: fact,
  parameters: fact,
  /** Tokens a second as measured there; null: not yet. */
  generateTokensPerSecond: fact,
  promptTokensPerSecond: fact.default(null),
});
export type InferModel = z.infer<typeof inferModel>;

export const inferFault = z.enum(['unreachable', 'model', 'refused', 'busy', 'context', 'timeout', 'broken']);

/** From who has the models. */
export const inferEvent = z.discriminatedUnion('type', [
  /** `running`: answers under way there for members. `lends`: it takes requests now. */
  z.object({
    type: z.literal('models'),
    models: z.array(inferModel).max(inferModelsMax),
    running: count,
    lends: z.boolean(),
  }),
  z.object({ type: z.literal('alive') }),
  z.object({ type: z.literal('text'), text }),
  z.object({ type: z.literal('thinking'), text }),
  z.object({ type: z.literal('call'), call }),
  z.object({
    type: z.literal('end'),
    reason: z.enum(['stop', 'length']),
    usage: z.object({
      promptTokens: fact,
      promptFreshTokens: fact,
      generatedTokens: fact,
      promptMs: fact,
      generateMs: fact,
    }),
  }),
  z.object({ type: z.literal('error'), fault: inferFault, message: z.string().max(2048) }),
]);
export type InferEvent = z.infer<typeof inferEvent>;
export const inferEventSchema = messageSchema(inferEvent);

/** A frame of one request. */
export const inferFrame = (request: InferRequest): Uint8Array => frameOf(request);
