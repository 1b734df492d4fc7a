import { OllamaBrain } from '../../../node/brain/ollama.ts';
import { Speeds } from '../../../node/brain/speed.ts';
import type { ChatEvent, ChatRequest } from '../../../node/brain/types.ts';
import { type Lender, MeshBrain } from '../../../node/infer/brain.ts';
import { OfferedModels } from '../../../node/infer/offered.ts';
import { type InferenceServer, type InferServerLimits, serveInference } from '../../../node/infer/server.ts';
import type { Host } from '../../../node/network/host.ts';
import { ScriptedOllama } from '../../model-server/scripted-ollama.ts';
import type { Net } from '../network/hosts.ts';

export const MODEL = 'scripted:7b';

/** A member whose machine has a scripted Ollama, and lends its models. */
export interface LendingMember {
  host: Host;
  ollama: ScriptedOllama;
  speeds: Speeds;
  serving: InferenceServer;
  errors: string[];
  lender: Lender;
  /** The owner's switch. */
  owner: { lends: boolean };
}

export async function lending(
  net: Net,
  name: string,
  limits: Partial<InferServerLimits> = {},
  models: string[] = [MODEL],
): Promise<LendingMember> {
  const ollama = await new ScriptedOllama(models).listen();
  net.onStop(() => ollama.close());
  const host = await net.member();
  const { registry, errors } = net.registry(host);
  const speeds = new Speeds();
  const brain = new OllamaBrain({ url: ollama.url });
  const owner = { lends: true };
  const serving = await serveInference({
    registry,
    models: new OfferedModels(async () => [brain], speeds),
    lends: () => owner.lends,
    limits,
  });
  const lender = { peer: host.peer, name, addresses: host.addresses() };
  return { host, ollama, speeds, serving, errors, lender, owner };
}

/** The brain of a member that lends nothing, over these. */
export const borrowing = (from: Host, lenders: Lender[]): MeshBrain =>
  new MeshBrain({
    lenders: () => lenders,
    connect: ({ peer, addresses }, signal) => from.dial(peer, addresses, signal),
  });

export const request = (fields: Partial<ChatRequest> = {}): ChatRequest => ({
  model: MODEL,
  messages: [{ role: 'user', content: 'hello' }],
  tools: [],
  format: null,
  maxTokens: 100,
  contextTokens: null,
  ...fields,
});

export async function eventsOf(answer: AsyncIterable<ChatEvent>): Promise<ChatEvent[]> {
  const events: ChatEvent[] = [];
  for await (const event of answer) events.push(event);
  return events;
}

export const textOf = (events: readonly ChatEvent[]): string =>
  events.map((event) => (event.type === 'text' ? event.text : '')).join('');
