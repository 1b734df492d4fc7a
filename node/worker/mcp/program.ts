import type { SandboxEnd, SandboxProcess } from '../../sandbox/types.ts';
import {
  answerBytesMax,
  type Link,
  McpFault,
  type Message,
  messageBytesMax,
  messageOf,
  messagesMax,
  replyTo,
  resultOf,
} from './link.ts';

/** Last bytes of stderr, for saying why it ended. */
const complaintBytesMax = 400;

/**
 * A server that runs in the sandbox of the task: a message a line on its stdin and stdout. It is listened to only while it is asked, so
 * that what it says besides fills its pipe and not this process.
 */
export class ProgramLink implements Link {
  readonly #process: SandboxProcess;
  readonly #log: (chunk: Buffer) => void;
  #ids = 0;
  #waiting: { id: number; resolve(value: unknown): void; reject(error: unknown): void } | null = null;
  /** Of a line that has not ended. */
  #parts: Buffer[] = [];
  #partBytes = 0;
  /** Since the request was made. */
  #heard = 0;
  #lines = 0;
  #complaint = Buffer.alloc(0);
  #gone: McpFault | null = null;

  /** `log` is given what it prints on stderr. */
  constructor(process: SandboxProcess, log: (chunk: Buffer) => void) {
    this.#process = process;
    this.#log = log;
    const { stdout, stderr } = process;
    stdout.on('data', (chunk: Buffer) => this.#hear(chunk)).pause();
    stderr.on('data', (chunk: Buffer) => this.#complain(chunk)).pause();
    for (const stream of [stdout, stderr]) stream.on('error', () => {});
    process.ended.then(
      (end) => this.#ended(end),
      (error: Error) => this.#end(new McpFault(error.message, { gone: true, cause: error })),
    );
  }

  request(method: string, params: object, signal: AbortSignal): Promise<unknown> {
    const { promise, resolve, reject } = Promise.withResolvers<unknown>();
    if (this.#gone !== null) return Promise.reject(this.#gone);
    this.#ids += 1;
    const id = this.#ids;
    const abort = (): void => reject(signal.reason);
    signal.addEventListener('abort', abort, { once: true });
    if (signal.aborted) abort();
    this.#waiting = { id, resolve, reject };
    this.#heard = 0;
    this.#lines = 0;
    this.#send({ jsonrpc: '2.0', id, method, params });
    this.#process.stdout.resume();
    this.#process.stderr.resume();
    return promise.finally(() => {
      signal.removeEventListener('abort', abort);
      this.#waiting = null;
      this.#process.stdout.pause();
      this.#process.stderr.pause();
    });
  }

  async notify(method: string): Promise<void> {
    this.#send({ jsonrpc: '2.0', method });
  }

  async close(): Promise<void> {
    this.#process.kill();
    await this.#process.ended.catch(() => {});
    this.#process.stdout.destroy();
    this.#process.stderr.destroy();
  }

  #send(message: object): void {
    this.#process.stdin?.write(`${JSON.stringify(message)}\n`);
  }

  #hear(chunk: Buffer): void {
    if (!this.#counted(chunk)) return;
    let from = 0;
    for (let at = chunk.indexOf(0x0a); at !== -1; at = chunk.indexOf(0x0a, from)) {
      const line = Buffer.concat([...this.#parts, chunk.subarray(from, at)]);
      this.#parts = [];
      this.#partBytes = 0;
      from = at + 1;
      this.#lines += 1;
      if (line.length > messageBytesMax) this.#flood(`${messageBytesMax} bytes of a message`);
      if (this.#lines > messagesMax) this.#flood(`${messagesMax} messages for an answer`);
      if (this.#gone !== null) return;
      this.#take(messageOf(line.toString('utf8')));
    }
    this.#parts.push(chunk.subarray(from));
    this.#partBytes += chunk.length - from;
    if (this.#partBytes > messageBytesMax) this.#flood(`${messageBytesMax} bytes of a message`);
  }

  #complain(chunk: Buffer): void {
    if (!this.#counted(chunk)) return;
    this.#complaint = Buffer.from(Buffer.concat([this.#complaint, chunk]).subarray(-complaintBytesMax));
    this.#log(chunk);
  }

  #counted(chunk: Buffer): boolean {
    this.#heard += chunk.length;
    if (this.#heard > answerBytesMax) this.#flood(`${answerBytesMax} bytes of an answer`);
    return this.#gone === null;
  }

  #take(message: Message | null): void {
    if (message === null) return;
    if (message.method !== undefined) {
      const reply = replyTo(message);
      if (reply !== null) this.#send(reply);
    } else if (message.id === this.#waiting?.id) {
      try {
        this.#waiting?.resolve(resultOf(message));
      } catch (error) {
        this.#waiting?.reject(error);
      }
    }
  }

  #flood(bound: string): void {
    this.#end(new McpFault(`it said more than the ${bound}, and was ended`, { gone: true }));
    this.#process.kill();
  }

  #ended({ exitCode, killedBy, signal }: SandboxEnd): void {
    const how = killedBy === null ? `exit ${exitCode ?? signal}` : `killed: ${killedBy}`;
    const tell = (): void => {
      const said = this.#complaint.toString('utf8').trim();
      this.#end(new McpFault(`it has ended (${how})${said === '' ? '' : `: ${said}`}`, { gone: true }));
    };
    // Its last words may be the answer.
    const { stdout } = this.#process;
    if (this.#waiting !== null && !stdout.closed) stdout.once('close', tell);
    else tell();
  }

  #end(fault: McpFault): void {
    this.#gone ??= fault;
    this.#waiting?.reject(this.#gone);
  }
}
