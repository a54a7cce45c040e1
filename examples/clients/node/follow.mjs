// Asks Snowflake for its version again and again, over a connection that follows the key file.
//
// Before each use it compares the file with the connection's key: it logs in with a new key first, and only then closes
// the old connection. While Snowflake refuses the new key, because it is not assigned yet, the old connection serves.
import { createHash, createPublicKey } from 'node:crypto';
import { readFile } from 'node:fs/promises';
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import snowflake from 'snowflake-sdk';

const env = process.env;
const keyFile = env.SNOWFLAKE_PRIVATE_KEY_PATH || '/run/snowflake/rsa_key.pem';
const interval = Number(env.INTERVAL || 5) * 1000; // between queries
const retry = 10_000; // until a key that did not log in is tried again

const options = {
  username: env.SNOWFLAKE_USER,
  authenticator: 'SNOWFLAKE_JWT',
  privateKeyPath: keyFile,
};
for (const name of ['account', 'host', 'port', 'protocol', 'role', 'warehouse', 'database', 'schema']) {
  const value = env[`SNOWFLAKE_${name.toUpperCase()}`];
  if (value) options[name] = value;
}

// Otherwise the driver writes snowflake.log into the current directory, which may be read-only.
snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });

// Not connectAsync: that tells of some failures only in a callback, and else seems to have connected.
const connect = promisify((done) => snowflake.createConnection(options).connect(done));
const query = promisify((connection, sqlText, done) =>
  connection.execute({ sqlText, complete: (error, _, rows) => done(error, rows) }));

// A connection on the newest key that Snowflake accepts. Get it anew for each use.
class Follower {
  retryAt = 0;

  async get() {
    if (Date.now() < this.retryAt) return this.connection;
    try {
      await this.follow();
    } catch (error) {
      if (!this.connection) throw error;
      this.retryAt = Date.now() + retry;
      console.log(`staying on the old key: ${error.message}`);
    }
    return this.connection;
  }

  async follow() {
    const key = await readFile(keyFile, 'utf8');
    if (key === this.key) return;
    const connection = await connect();
    const old = this.connection;
    [this.connection, this.key] = [connection, key];
    console.log(`logged in with ${fingerprint(key)}`);
    old?.destroy(() => {});
  }
}

// What DESC USER shows of the key's public half.
function fingerprint(key) {
  const spki = createPublicKey(key).export({ type: 'spki', format: 'der' });
  return `SHA256:${createHash('sha256').update(spki).digest('base64')}`;
}

const follower = new Follower();
process.on('SIGTERM', () => (follower.connection ? follower.connection.destroy(() => process.exit()) : process.exit()));
for (;; await sleep(interval)) {
  try {
    const [row] = await query(await follower.get(), 'SELECT current_version() AS version');
    console.log(`Snowflake ${row.VERSION} on ${fingerprint(follower.key)}`);
  } catch (error) {
    console.log(`no answer: ${error.message}`);
    follower.key = undefined; // the session may be gone: log in again
  }
}
