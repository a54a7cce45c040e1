"""What a user does with tables, while the key changes: one line for each thing."""

import os
import time

import pandas
import snowflake.connector
from snowflake.connector.pandas_tools import write_pandas

KEY = os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"]
OPTIONS = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in ("account", "user", "host", "port", "protocol")}

# What the engine cannot do, although Snowflake can. docs/local-snowflake.md says so.
LIMITS = [
    "SELECT NULL::TIMESTAMP_NTZ",
    "SELECT LAST_QUERY_ID()",
    "EXPLAIN SELECT 1",
    "GET @files file:///tmp/",
    "CREATE ROLE other",
    "GRANT SELECT ON TABLE people TO ROLE other",
    "CREATE PROCEDURE p() RETURNS INT LANGUAGE SQL AS $$ BEGIN RETURN 1; END $$",
    "CREATE TASK t SCHEDULE = '1 MINUTE' AS SELECT 1",
    "CREATE WAREHOUSE other",
    "MERGE INTO people USING (SELECT 1 AS id, 'a' AS name) AS s ON people.id = s.id "
    "WHEN NOT MATCHED THEN INSERT (id, name) VALUES (id, name)",
]


def connect(**more):
    return snowflake.connector.connect(private_key_file=KEY, database="APP", schema="MAIN", role="LOADER", **OPTIONS, **more)


def ask(connection, sql, parameters=None, **more):
    with connection.cursor() as cursor:
        return cursor.execute(sql, parameters, **more).fetchall()


def say(name, *values):
    print(name, *values, sep="|", flush=True)


def key():
    with open(KEY, "rb") as file:
        return file.read()


first_key = key()
with connect() as first, connect(paramstyle="qmark", autocommit=False) as second:
    say("created", *ask(first, "CREATE TABLE people (id INT, name VARCHAR, born DATE)")[0])
    with first.cursor() as cursor:
        cursor.executemany("INSERT INTO people VALUES (%s, %s, %s)", [(1, "it's", "1990-01-02"), (2, None, None)])
        say("inserted", cursor.rowcount)
    with second.cursor() as cursor:
        cursor.executemany("INSERT INTO people (id, name) VALUES (?, ?)", [(3, "three"), (4, "four")])
        say("inserted", cursor.rowcount)
    say("before COMMIT", *ask(first, "SELECT COUNT(*) FROM people")[0])
    second.commit()
    say("after COMMIT", *ask(first, "SELECT COUNT(*) FROM people")[0])
    say("deleted", *ask(second, "DELETE FROM people")[0])
    say("before ROLLBACK", *ask(second, "SELECT COUNT(*) FROM people")[0])
    second.rollback()
    say("after ROLLBACK", *ask(second, "SELECT COUNT(*) FROM people")[0])
    written = write_pandas(first, pandas.DataFrame({"ID": [5, 6], "NAME": ["five", "six"]}), "PEOPLE")
    say("written", written[0], written[2])
    for row in ask(first, "SELECT id, name, born, CURRENT_USER(), CURRENT_ROLE() FROM people ORDER BY id"):
        say("row", *row)
    with first.cursor() as cursor:
        cursor.execute("CREATE TABLE other (a INT); INSERT INTO other VALUES (1), (2); SELECT MAX(a) FROM other", num_statements=3)
        several = [cursor.fetchone()[0]]
        while cursor.nextset():
            several.append(cursor.fetchone()[0])
        say("several", *several)
    with first.cursor() as cursor:
        cursor.execute_async("SELECT MAX(id) FROM people")
        cursor.get_results_from_sfqid(cursor.sfqid)
        say("asynchronous", *cursor.fetchone())
    with first.cursor() as cursor:
        cursor.execute("CREATE STAGE files")
    for sql in LIMITS:
        try:
            ask(first, sql)
            say("can", sql)
        except snowflake.connector.errors.Error as error:
            say("cannot", error.errno, sql)
    try:
        ask(first, "SELECT * FROM missing")
    except snowflake.connector.errors.ProgrammingError as error:
        say("error", error.errno, error.sqlstate)

    say("the first key", "is used")
    while key() == first_key:
        time.sleep(0.05)
    with connect() as third:
        say("with the second key", *ask(third, "SELECT COUNT(*) FROM people")[0])
        ask(third, "INSERT INTO people (id) VALUES (7)")
    say("with the first key", *ask(first, "SELECT COUNT(*) FROM people")[0])
