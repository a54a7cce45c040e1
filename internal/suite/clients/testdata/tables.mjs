// What a user does with tables, with snowflake-sdk: one line for each thing.
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
  database: 'DB',
  schema: 'S',
  rowMode: 'array',
};
const connection = await promisify((done) => snowflake.createConnection(options).connect(done))();
const ask = promisify((sqlText, binds, done) =>
  connection.execute({ sqlText, binds, complete: (error, _, rows) => done(error, rows) }));
const plain = (value) => (value === null ? 'NULL' : value instanceof Date ? value.toISOString()
  : Buffer.isBuffer(value) ? value.toString('hex') : typeof value === 'object' ? JSON.stringify(value) : value);
const say = (name, rows) => { for (const row of rows) console.log([name, ...row.map(plain)].join('|')); };

say('created', await ask('CREATE TABLE things (id INT, price NUMBER(10, 2), name VARCHAR, good BOOLEAN)', []));
say('inserted', await ask('INSERT INTO things VALUES (?, ?, ?, ?)', [1, '1.25', "it's", true]));
say('inserted', await ask('INSERT INTO things VALUES (?, ?, ?, ?)', [[2, null, null, false], [3, '-0.05', 'three', true]]));
say('row', await ask('SELECT * FROM things ORDER BY id', []));
say('none', await ask('SELECT * FROM things WHERE id > 3', []));
say('counted', await ask('SELECT COUNT(*), CURRENT_USER() FROM things', []));
say('types', await ask(`SELECT 0.5::FLOAT, '1990-01-02'::DATE, '1990-01-02 03:04:05.678'::TIMESTAMP_NTZ, NULL::TIMESTAMP_NTZ,
  '1969-12-31 23:59:59.5'::TIMESTAMP_NTZ, PARSE_JSON('{"a":[1,2]}') FROM things WHERE id = 1`, []));
say('deleted', await ask('DELETE FROM things WHERE id > ?', [1]));
try {
  await ask('INSERT INTO things (id) VALUES (?)', [[4], [null]]);
} catch (error) {
  console.log('cannot', '|', Number(error.code), '| bind a NULL number in one of several rows');
}
say('shown', (await ask('SHOW TABLES', [])).map((row) => [row[1]]));
await promisify((done) => connection.destroy(done))();
