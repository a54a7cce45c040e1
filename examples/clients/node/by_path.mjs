// Connects by the path of the key. The driver reads the file for each new connection, also for those that a pool makes.
import snowflake from 'snowflake-sdk';

const options = {
  username: process.env.SNOWFLAKE_USER,
  authenticator: 'SNOWFLAKE_JWT',
  privateKeyPath: process.env.SNOWFLAKE_PRIVATE_KEY_PATH || '/run/snowflake/rsa_key.pem',
};
for (const name of ['account', 'host', 'port', 'protocol', 'role', 'warehouse', 'database', 'schema']) {
  const value = process.env[`SNOWFLAKE_${name.toUpperCase()}`];
  if (value) options[name] = value;
}

// Otherwise the driver writes snowflake.log into the current directory, which may be read-only.
snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });

const pool = snowflake.createPool(options, { max: 4 });
const [row] = await pool.use((connection) => new Promise((resolve, reject) =>
  connection.execute({
    sqlText: 'SELECT current_version() AS version',
    complete: (error, _, rows) => (error ? reject(error) : resolve(rows)),
  })));
console.log(`Snowflake ${row.VERSION}`);
await pool.drain();
await pool.clear();
