// Connects by name: the sidecar's connections.toml has the account, the user and the path of the key.
// Set SNOWFLAKE_HOME=/run/snowflake; and SKIP_TOKEN_FILE_PERMISSIONS_VERIFICATION=true where the container's user has no entry
// in /etc/passwd, or is not the sidecar's.
import { promisify } from 'node:util';
import snowflake from 'snowflake-sdk';

// Otherwise the driver writes snowflake.log into the current directory, which may be read-only.
snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });

const connection = snowflake.createConnection();
await promisify((done) => connection.connect(done))();
const [row] = await promisify((done) =>
  connection.execute({ sqlText: 'SELECT current_version() AS version', complete: (error, _, rows) => done(error, rows) }))();
console.log(`Snowflake ${row.VERSION}`);
await promisify((done) => connection.destroy(done))();
