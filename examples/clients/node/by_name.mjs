// Connects by name: the sidecar's connections.toml has the account, the user and the path of the key.
// Set SNOWFLAKE_HOME=/run/snowflake, and nothing else.
import { promisify } from 'node:util';
import snowflake from 'snowflake-sdk';

// Otherwise the driver writes snowflake.log into the current folder, which may be read-only.
snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });

const connection = snowflake.createConnection();
await promisify((done) => connection.connect(done))();
const [row] = await promisify((done) =>
  connection.execute({ sqlText: 'SELECT current_version() AS version', complete: (error, _, rows) => done(error, rows) }))();
console.log(`Snowflake ${row.VERSION}`);
await promisify((done) => connection.destroy(done))();
