// For each line with a number it takes that many connections at the same time, asks each about its session, and gives them back.
// It connects by name if SNOWFLAKE_HOME is set, and else by path; with POOL=true through a pool.
import { createInterface } from 'node:readline';
import { promisify } from 'node:util';
import snowflake from 'snowflake-sdk';

const env = process.env;
const query = 'SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()';
const options = env.SNOWFLAKE_HOME ? undefined : {
  account: env.SNOWFLAKE_ACCOUNT,
  username: env.SNOWFLAKE_USER,
  host: env.SNOWFLAKE_HOST,
  port: env.SNOWFLAKE_PORT,
  protocol: env.SNOWFLAKE_PROTOCOL,
  role: env.SNOWFLAKE_ROLE,
  warehouse: env.SNOWFLAKE_WAREHOUSE,
  database: env.SNOWFLAKE_DATABASE,
  schema: env.SNOWFLAKE_SCHEMA,
  authenticator: 'SNOWFLAKE_JWT',
  privateKeyPath: env.SNOWFLAKE_PRIVATE_KEY_PATH,
};
snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });

const unpooled = {
  acquire: promisify((done) => snowflake.createConnection(options).connect(done)),
  release: promisify((connection, done) => connection.destroy(done)),
};
const pool = env.POOL ? snowflake.createPool(options, { max: 10 }) : undefined;
const connections = pool ?? unpooled;
const ask = promisify((connection, done) =>
  connection.execute({ sqlText: query, complete: (error, _, rows) => done(error, rows) }));

for await (const line of createInterface({ input: process.stdin })) {
  const taken = await Promise.all(Array.from({ length: Number(line) }, () => connections.acquire()));
  for (const connection of taken) {
    const [row] = await ask(connection);
    console.log(Object.values(row).join(','));
  }
  await Promise.all(taken.map((connection) => connections.release(connection)));
}
await pool?.drain();
await pool?.clear();
