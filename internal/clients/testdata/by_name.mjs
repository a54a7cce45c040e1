// Connects without arguments. SNOWFLAKE_HOME says where the connection is.
import { promisify } from 'node:util';
import snowflake from 'snowflake-sdk';

snowflake.configure({ logFilePath: 'STDOUT', logLevel: 'ERROR' });
const connection = await promisify((done) => snowflake.createConnection().connect(done))();
const ask = promisify((sqlText, done) =>
  connection.execute({ sqlText, complete: (error, _, rows) => done(error, rows) }));
const [row] = await ask('SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()');
console.log(Object.values(row).join(','));
await promisify((done) => connection.destroy(done))();
