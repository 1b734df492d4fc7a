// @ts-check
import { spawn } from 'node:child_process';
import { connect, createServer } from 'node:net';
import { constants } from 'node:os';

/**
 * Runs inside a sandbox, whose network is its own `lo`: makes a Unix socket that was mounted there reachable as a port of
 * 127.0.0.1, runs a command, and ends with it and its exit code (128 and the signal where one ended it; 127 and 126 where it
 * is not there or can't be run). Node alone, no modules: nothing else of this program is mounted.
 *
 * `node forwarder.mjs SOCKET PORT VARIABLES COMMAND…`: PORT 0 is any that is free; each of VARIABLES, names with commas
 * between, is `http://127.0.0.1:PORT` in the command's environment.
 */
const [socket = '', port = '', variables = '', command = '', ...args] = process.argv.slice(2);

const server = createServer({ allowHalfOpen: true }, (client) => {
  const onward = connect({ path: socket, allowHalfOpen: true });
  const cut = () => {
    client.destroy();
    onward.destroy();
  };
  client.on('error', cut);
  onward.on('error', cut);
  client.pipe(onward).pipe(client);
});

server.on('error', (error) => fail(126, `no port of 127.0.0.1: ${error.message}`));
server.listen(Number(port), '127.0.0.1', () => {
  const address = server.address();
  const own = typeof address === 'object' && address !== null ? address.port : port;
  const env = { ...process.env };
  for (const name of variables.split(',').filter((each) => each !== ''))
    env[name] = `http://127.0.0.1:${own}`;
  const child = spawn(command, args, { stdio: 'inherit', env });
  child.on('error', (error) => {
    const missing = 'code' in error && error.code === 'ENOENT';
    fail(missing ? 127 : 126, `failed to execute ${command}: ${error.message}`);
  });
  child.on('exit', (code, signal) => {
    process.exit(code ?? 128 + (signal === null ? 0 : constants.signals[signal]));
  });
  for (const signal of /** @type {const} */ (['SIGTERM', 'SIGINT', 'SIGHUP']))
    process.on(signal, () => child.kill(signal));
});

/**
 * @param {number} code
 * @param {string} text
 */
function fail(code, text) {
  process.stderr.write(`forwarder: ${text}\n`);
  process.exit(code);
}
