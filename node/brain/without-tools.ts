import { answering, callNumbers, isObject, objectIn } from './answer.ts';
import type { Brain, ChatEvent, ChatRequest, Message, Model, ToolCall, ToolDefinition } from './types.ts';

/**
 * A brain for models that call no tools: what they may call becomes the schema of their answer, and the answer becomes a
 * call or text. Text comes whole, with the end. What is not of the form asked for, or names a tool that was not offered, is
 * given as the text it is. A request without tools passes unchanged.
 */
export function withoutTools(brain: Brain): Brain {
  return {
    name: brain.name,
    server: brain.server,
    place: brain.place,
    models: (signal: AbortSignal): Promise<Model[]> => brain.models(signal),
    chat: (request: ChatRequest, signal: AbortSignal): AsyncIterable<ChatEvent> =>
      request.tools.length === 0
        ? brain.chat(request, signal)
        : answering(brain.server, request, signal, (own) => byFormat(brain, request, own)),
    ...(brain.unload === undefined ? {} : { unload: brain.unload.bind(brain) }),
  };
}

async function* byFormat(brain: Brain, request: ChatRequest, signal: AbortSignal): AsyncGenerator<ChatEvent> {
  let text = '';
  for await (const event of brain.chat(asked(request), signal)) {
    if (event.type === 'text') text += event.text;
    else if (event.type === 'end') {
      const said = readAnswer(text, request);
      if (said !== null) yield said;
      yield event;
    } else yield event;
  }
}

/** What the model said; null: nothing. */
function readAnswer(text: string, request: ChatRequest): ChatEvent | null {
  if (text.trim() === '') return null;
  const answer = objectIn(unfenced(text));
  if (
    answer !== null &&
    request.tools.some(({ name }) => name === answer.tool) &&
    isObject(answer.arguments)
  ) {
    const id = callNumbers(request.messages)();
    const call = { id, name: String(answer.tool), arguments: answer.arguments };
    return { type: 'call', call: { ...call, text: JSON.stringify(answer.arguments) } };
  }
  if (answer !== null && answer.tool === undefined && answer.answer !== undefined) {
    const given = answer.answer;
    if (request.format !== null) return { type: 'text', text: JSON.stringify(given) };
    if (typeof given === 'string') return given === '' ? null : { type: 'text', text: given };
  }
  return { type: 'text', text };
}

/** Servers that do not hold a model to its schema let it put the object into one block of Markdown. */
const unfenced = (text: string): string =>
  /^\s*```(?:json)?\s*\n([\s\S]*?)\n?```\s*$/.exec(text)?.[1] ?? text;

function asked(request: ChatRequest): ChatRequest {
  return {
    ...request,
    tools: [],
    format: answerSchema(request.tools, request.format),
    messages: withNote(request.messages.map(plain), note(request.tools)),
  };
}

/** One of the tools with its arguments, or the answer. `tool` stands first, so that a model decides before it writes. */
function answerSchema(
  tools: readonly ToolDefinition[],
  format: ChatRequest['format'],
): Record<string, unknown> {
  const only = (properties: Record<string, unknown>): object => ({
    type: 'object',
    properties,
    required: Object.keys(properties),
    additionalProperties: false,
  });
  return {
    anyOf: [
      ...tools.map(({ name, parameters }) => only({ tool: { const: name }, arguments: parameters })),
      only({ answer: format ?? { type: 'string' } }),
    ],
  };
}

const note = (tools: readonly ToolDefinition[]): string =>
  [
    'Answer with one JSON object and nothing else.',
    'To use a tool: {"tool": NAME, "arguments": {…}}. Its result comes in the next message. One tool at a time.',
    'When you need no tool: {"answer": …}.',
    'Tools, with the JSON schema of their arguments:',
    ...tools.map(
      ({ name, description, parameters }) => `- ${name}: ${description} ${JSON.stringify(parameters)}`,
    ),
  ].join('\n');

/** Calls and results in words, as the model is to write and read them. */
function plain(message: Message): Message {
  if (message.role === 'tool') {
    return { role: 'user', content: `Result of ${message.name}:\n${message.content}` };
  }
  if (message.role !== 'assistant' || message.calls.length === 0) return message;
  const written = message.calls.map(callText);
  const content = [message.content, ...written].filter((part) => part !== '').join('\n');
  return { role: 'assistant', content, calls: [] };
}

const callText = (call: ToolCall): string =>
  call.arguments === null ? call.text : JSON.stringify({ tool: call.name, arguments: call.arguments });

/** Joined to the system message where there is one: many templates know only the first. */
function withNote(messages: readonly Message[], text: string): Message[] {
  const [first, ...rest] = messages;
  return first?.role === 'system'
    ? [{ role: 'system', content: `${first.content}\n\n${text}` }, ...rest]
    : [{ role: 'system', content: text }, ...messages];
}
