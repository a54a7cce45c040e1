// Connects with the key that the sidecar serves at a socket. Each new connection reads it again.
import { connect } from 'node:net';
import { text } from 'node:stream/consumers';
import { promisify } from 'node:util';
import snowflake from 'snowflake-sdk';

const socket = process.env.SNOWFLAKE_PRIVATE_KEY_PATH || '/run/snowflake/rsa_key.pem.sock';
const options = { username: process.env.SNOWFLAKE_USER, authenticator: 'SNOWFLAKE_JWT' };
for (const name of ['account', 'host', 'port', 'protocol', 'role', 'warehouse', 'database', 'schema']) {
  const value = process.env[`SNOWFLAKE_${name.toUpperCase()}`];
  if (value) options[name] = value;
}

// Otherwise the driver writes snowflake.log into the current directory, which may be read-only.
snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });

// The newest key, as PEM. It is for one connection: do not keep it.
async function key() {
  const client = connect(socket);
  client.setTimeout(5000, () => client.destroy(new Error(`${socket} gives no key in time`)));
  const pem = await text(client);
  if (!pem) throw new Error(`${socket} gives no key: the sidecar's log says why`);
  return pem;
}

const connection = snowflake.createConnection({ ...options, privateKey: await key() });
await promisify((done) => connection.connect(done))();
const query = promisify((sqlText, done) => connection.execute({ sqlText, complete: (error, _, rows) => done(error, rows) }));
const [row] = await query('SELECT current_version() AS version');
console.log(`Snowflake ${row.VERSION}`);
await promisify((done) => connection.destroy(done))();
