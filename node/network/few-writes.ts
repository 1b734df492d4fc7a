import type { Socket } from 'node:net';
import type { ConnectionEncrypter, MessageStream } from '@libp2p/interface';

/** What we use of libp2p's TCP connection besides its interface; another transport has none of it and is left as it is. */
interface OverSocket {
  socket?: Socket;
  sendData?: (data: unknown) => { sentBytes: number; canSendMore: boolean };
}
/** The same of an encrypted one. */
interface Decoding {
  decoder?: { lengthDecoder?: (data: { length: number }) => number };
}

/** Longer than any message of Noise: who has too few bytes for a length waits for more, as for the rest of a message. */
const NOT_YET = 2 ** 17;

/**
 * An encrypter whose connections cost few system calls. libp2p writes the length of each message, the message and each
 * window update by themselves, and the other side reads each by itself: what one turn of the event loop sends leaves in one
 * write here. The decoder ends each read with an exception for a length that has not come yet, of 50 µs; here with none.
 */
export const inFewWrites =
  <Components>(make: (components: Components) => ConnectionEncrypter) =>
  (components: Components): ConnectionEncrypter => {
    const encrypter = make(components);
    const inbound = encrypter.secureInbound.bind(encrypter);
    const outbound = encrypter.secureOutbound.bind(encrypter);
    encrypter.secureInbound = async (connection, options) => {
      gather(connection);
      return eased(await inbound(connection, options));
    };
    encrypter.secureOutbound = async (connection, options) => {
      gather(connection);
      return eased(await outbound(connection, options));
    };
    return encrypter;
  };

function gather(connection: MessageStream): void {
  const over = connection as unknown as OverSocket;
  const { socket } = over;
  const sendData = over.sendData?.bind(over);
  if (socket === undefined || sendData === undefined) return;
  let held = false;
  const flush = (): void => {
    if (!held) return;
    held = false;
    socket.uncork();
  };
  over.sendData = (data) => {
    if (!held) {
      held = true;
      socket.cork();
      setImmediate(flush);
    }
    const sent = sendData(data);
    // A full socket only waits for its drain, so there is nothing more to gather.
    if (!sent.canSendMore) flush();
    return sent;
  };
}

function eased<Secured extends { connection: MessageStream }>(secured: Secured): Secured {
  const { decoder } = secured.connection as unknown as Decoding;
  const decode = decoder?.lengthDecoder;
  if (decoder !== undefined && decode !== undefined) {
    decoder.lengthDecoder = (data) => (data.length < 2 ? NOT_YET : decode(data));
  }
  return secured;
}
