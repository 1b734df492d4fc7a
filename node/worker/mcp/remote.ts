import { request as httpRequest, type IncomingMessage } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP } from 'node:net';
import { createParser } from 'eventsource-parser';
import { onLan } from '../../network/announcer.ts';
import { lookupOnLan } from '../../offer/models.ts';
import {
  answerBytesMax,
  type Link,
  McpFault,
  type Message,
  messageBytesMax,
  messageOf,
  messagesMax,
  resultOf,
} from './link.ts';

/** A server that is left is told so, and waited for no longer. */
const leaveMs = 2_000;
const headerBytesMax = 16 * 1024;
const sessionLengthMax = 256;

/**
 * A server on this machine or the LAN, by the Streamable HTTP of the specification: a POST for each message, answered by JSON or by
 * events. Redirects are not followed, and nothing is sent that tells who asks.
 */
export class RemoteLink implements Link {
  readonly #url: URL;
  #ids = 0;
  #session: string | null = null;
  #version: string | null = null;

  constructor(url: string) {
    this.#url = new URL(url);
  }

  async request(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    this.#ids += 1;
    const id = this.#ids;
    const answer = await this.#post({ jsonrpc: '2.0', id, method, params }, signal);
    try {
      const session = answer.headers['mcp-session-id'];
      if (method === 'initialize' && typeof session === 'string' && /^[!-~]+$/.test(session))
        this.#session = session.slice(0, sessionLengthMax);
      const found = await this.#read(answer, id);
      const result = resultOf(found);
      if (method === 'initialize') this.#version = versionIn(result);
      return result;
    } catch (error) {
      signal.throwIfAborted();
      if (error instanceof McpFault) throw error;
      throw new McpFault(`it broke off: ${(error as Error).message}`, { gone: true, cause: error });
    } finally {
      answer.destroy();
    }
  }

  async notify(method: string, signal: AbortSignal): Promise<void> {
    (await this.#post({ jsonrpc: '2.0', method }, signal)).destroy();
  }

  async close(): Promise<void> {
    if (this.#session === null) return;
    await this.#ask('DELETE', null, AbortSignal.timeout(leaveMs)).then(
      (answer) => answer.destroy(),
      () => {},
    );
    this.#session = null;
  }

  async #post(message: object, signal: AbortSignal): Promise<IncomingMessage> {
    const answer = await this.#ask('POST', JSON.stringify(message), signal);
    const status = answer.statusCode ?? 0;
    if (status >= 200 && status < 300) return answer;
    answer.destroy();
    throw new McpFault(`it answered with status ${status}`, { gone: true });
  }

  #ask(method: string, body: string | null, signal: AbortSignal): Promise<IncomingMessage> {
    const host = this.#url.hostname.replace(/^\[(.*)\]$/, '$1');
    if (isIP(host) !== 0 && !onLan(host))
      return Promise.reject(new McpFault('its address is outside the LAN', { gone: true }));
    const request = this.#url.protocol === 'https:' ? httpsRequest : httpRequest;
    return new Promise((resolve, reject) => {
      const asked = request(this.#url, {
        method,
        agent: false,
        lookup: lookupOnLan,
        maxHeaderSize: headerBytesMax,
        signal,
        headers: {
          accept: 'application/json, text/event-stream',
          ...(this.#session === null ? {} : { 'mcp-session-id': this.#session }),
          ...(this.#version === null ? {} : { 'mcp-protocol-version': this.#version }),
          ...(body === null
            ? {}
            : { 'content-type': 'application/json', 'content-length': Buffer.byteLength(body) }),
        },
      });
      asked.once('response', resolve);
      asked.once('upgrade', (_, socket) => socket.destroy());
      asked.on('error', (cause) =>
        reject(
          signal.aborted
            ? signal.reason
            : new McpFault(`it does not answer: ${cause.message}`, { gone: true, cause }),
        ),
      );
      asked.once('close', () => reject(new McpFault('it gave no answer', { gone: true })));
      asked.end(body ?? undefined);
    });
  }

  /** The answer to a request; other messages on the way are let go. */
  async #read(answer: IncomingMessage, id: number): Promise<Message> {
    const events = /^text\/event-stream\b/i.test(answer.headers['content-type'] ?? '');
    let found: Message | null = null;
    const take = (text: string): void => {
      const message = messageOf(text);
      if (message !== null && message.method === undefined && message.id === id) found ??= message;
    };
    let messages = 0;
    const parser = createParser({
      onEvent: ({ data }) => {
        messages += 1;
        if (messages <= messagesMax) take(data);
      },
    });
    const decoder = new TextDecoder();
    const whole: Buffer[] = [];
    let heard = 0;
    for await (const chunk of answer as AsyncIterable<Buffer>) {
      heard += chunk.length;
      const max = events ? answerBytesMax : messageBytesMax;
      if (heard > max) throw new McpFault(`it said more than ${max} bytes`, { gone: true });
      if (events) parser.feed(decoder.decode(chunk, { stream: true }));
      else whole.push(chunk);
      if (found !== null) return found;
      if (messages > messagesMax)
        throw new McpFault(`it said more than ${messagesMax} messages`, { gone: true });
    }
    if (!events) take(Buffer.concat(whole).toString('utf8'));
    if (found !== null) return found;
    throw new McpFault('what it answered is no answer to what it was asked', { gone: true });
  }
}

function versionIn(result: unknown): string | null {
  const version = (result as { protocolVersion?: unknown } | null)?.protocolVersion;
  return typeof version === 'string' && /^[\w.-]{1,32}$/.test(version) ? version : null;
}
