import { type LookupAddress, lookup } from 'node:dns';
import { request as httpRequest } from 'node:http';
import { request as httpsRequest } from 'node:https';
import { isIP, type LookupFunction } from 'node:net';
import { SuperfleetError } from '../../protocol/errors.ts';
import { parseModels } from '../doctor/models.ts';
import { onLan } from '../network/announcer.ts';

/** Model servers that one machine lends. */
export const modelServersMax = 16;
const ANSWER_MS = 2_000;
const ANSWER_BYTES_MAX = 1024 * 1024;

/** A model server elsewhere on the LAN as this machine found it now. */
export interface LentModels {
  url: string;
  /** Whose form its list has; null: it gave none. */
  speaks: 'Ollama' | 'OpenAI' | null;
  models: string[];
  /** What went wrong, in words; null: it answered. */
  fault: string | null;
}

/**
 * The address of a model server as it is kept: `http://host:port` and a path, without `/v1` or a slash at its end.
 * `SF_USAGE` for what is no such address, or names an address outside the LAN.
 */
export function modelServerUrl(text: string): string {
  const expected = 'the address of a model server on this network, such as http://192.168.1.7:11434';
  const refuse = (why: string): SuperfleetError =>
    new SuperfleetError('SF_USAGE', `a model server cannot be at this address: ${why}`, {
      expected,
      got: text.slice(0, 256),
      hint: 'mesh-node models add http://HOST:PORT',
    });
  const url = URL.parse(text);
  if (url === null || text.length > 512) throw refuse('it is no URL');
  if (url.protocol !== 'http:' && url.protocol !== 'https:') throw refuse('it is neither http nor https');
  if (url.username !== '' || url.password !== '')
    throw refuse('it holds a password, which would be kept readable');
  if (url.search !== '' || url.hash !== '') throw refuse('it has a query or a fragment');
  const host = hostOf(url);
  if (isIP(host) !== 0 && !onLan(host)) throw refuse('it is outside the LAN, and no work leaves that');
  return `${url.origin}${url.pathname.replace(/\/+$/, '').replace(/\/v1$/, '')}`;
}

const hostOf = (url: URL): string => url.hostname.replace(/^\[(.*)\]$/, '$1');

/** Asks a server for its models, first as Ollama lists them, then as OpenAI does. Never throws. */
export async function askModels(url: string): Promise<LentModels> {
  const faults: string[] = [];
  for (const [speaks, path] of [
    ['Ollama', '/api/tags'],
    ['OpenAI', '/v1/models'],
  ] as const) {
    try {
      const models = parseModels(await get(url, path));
      if (models !== null) return { url, speaks, models, fault: null };
      faults.push(`${path} lists no models`);
    } catch (thrown) {
      const { code, message } = thrown as NodeJS.ErrnoException;
      faults.push(message.startsWith(path) ? message : (code ?? message));
      // Who does not answer at all is not asked twice.
      if (!message.startsWith(path)) break;
    }
  }
  return { url, speaks: null, models: [], fault: [...new Set(faults)].join('; ') };
}

function get(base: string, path: string): Promise<string> {
  const url = new URL(`${base}${path}`);
  const request = url.protocol === 'https:' ? httpsRequest : httpRequest;
  return new Promise((resolve, reject) => {
    let body = '';
    const signal = AbortSignal.timeout(ANSWER_MS);
    const fail = (error: Error): void =>
      reject(signal.aborted ? new Error(`no answer within ${ANSWER_MS / 1000} s`) : error);
    const asked = request(url, { signal, agent: false, lookup: lookupOnLan }, (answer) => {
      answer.setEncoding('utf8');
      answer.on('error', fail);
      answer.on('end', () => {
        if (answer.statusCode === 200) resolve(body);
        else reject(new Error(`${path} answers ${answer.statusCode}`));
      });
      answer.on('data', (part: string) => {
        body += part;
        if (body.length > ANSWER_BYTES_MAX) asked.destroy(new Error(`${path} has no end`));
      });
    });
    asked.on('error', fail);
    asked.end();
  });
}

/** A name is asked for when it is used, and what it stands for then must lie on the LAN (promise 17). */
export const lookupOnLan: LookupFunction = (host, options, answer) => {
  lookup(host, { ...options, all: true }, (error, found: LookupAddress[]) => {
    const near = (found ?? []).filter(({ address }) => onLan(address));
    const [first] = near;
    if (error !== null || first === undefined) {
      answer(error ?? new Error(`${host} is outside the LAN`), '', 4);
    } else if (options.all) answer(null, near);
    else answer(null, first.address, first.family);
  });
};
