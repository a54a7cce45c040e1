// What a user does in a session, with snowflake-sdk: one line for each thing.
import { setTimeout as sleep } from 'node:timers/promises';
import { promisify } from 'node:util';
import snowflake from 'snowflake-sdk';

const env = process.env;
snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });
const options = {
  account: env.SNOWFLAKE_ACCOUNT,
  username: env.SNOWFLAKE_USER,
  host: env.SNOWFLAKE_HOST,
  port: env.SNOWFLAKE_PORT,
  protocol: env.SNOWFLAKE_PROTOCOL,
  authenticator: 'SNOWFLAKE_JWT',
  privateKeyPath: env.SNOWFLAKE_PRIVATE_KEY_PATH,
  rowMode: 'array',
};
const connection = await promisify((done) => snowflake.createConnection(options).connect(done))();
const ask = promisify((sqlText, binds, done) =>
  connection.execute({ sqlText, binds, complete: (error, _, rows) => done(error, rows) }));
const say = (name, ...values) => console.log([name, ...values.map((value) => value ?? 'NULL')].join('|'));

say('bound there', ...(await ask('SELECT ?, ?, ?, ?', [42, "it's", null, true]))[0]);
for (const row of await ask("SELECT * FROM VALUES (1, 'one', 1.25), (2, NULL, -0.25), (3, 'three', NULL)", [])) {
  say('row', ...row);
}
say('waited', ...(await ask("SELECT SYSTEM$WAIT(200, 'MILLISECONDS')", []))[0]);
await ask('BEGIN', []);
say('in a transaction', ...(await ask('SELECT 1', []))[0]);
await ask('COMMIT', []);
await ask('ROLLBACK', []);
try {
  await ask('SELECT * FROM missing', []);
} catch (error) {
  say('error', Number(error.code), error.sqlState);
}
const [before] = await ask('SELECT current_session()', []);
await sleep(2500); // longer than its token is valid
const [after] = await ask('SELECT current_session()', []);
say('same session', before[0] === after[0]);
await promisify((done) => connection.destroy(done))();
