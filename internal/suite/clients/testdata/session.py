"""What a user does in a session, with snowflake-connector-python: one line for each thing."""

import os
import time

import snowflake.connector

SETTINGS = ("account", "user", "host", "port", "protocol")
OPTIONS = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in SETTINGS}
OPTIONS["private_key_file"] = os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"]


def say(name, *values):
    words = {None: "NULL", True: "true", False: "false"}
    print(name, *(words[v] if v is None or isinstance(v, bool) else v for v in values), sep="|", flush=True)


def ask(connection, sql, parameters=None):
    with connection.cursor() as cursor:
        return cursor.execute(sql, parameters).fetchall()


with snowflake.connector.connect(**OPTIONS) as connection:
    say("bound here", *ask(connection, "SELECT %s, %s, %s, %s", (42, "it's", None, True))[0])
    for row in ask(connection, "SELECT * FROM VALUES (1, 'one', 1.25), (2, NULL, -0.25), (3, 'three', NULL)"):
        say("row", *row)
    say("waited", *ask(connection, "SELECT SYSTEM$WAIT(200, 'MILLISECONDS')")[0])
    connection.autocommit(False)
    say("in a transaction", *ask(connection, "SELECT 1")[0])
    connection.commit()
    connection.rollback()
    connection.autocommit(True)
    try:
        ask(connection, "SELECT * FROM missing")
    except snowflake.connector.errors.ProgrammingError as error:
        say("error", error.errno, error.sqlstate)
    before = ask(connection, "SELECT current_session()")[0]
    time.sleep(2.5)  # longer than its token is valid
    say("same session", ask(connection, "SELECT current_session()")[0] == before)

with snowflake.connector.connect(**OPTIONS, paramstyle="qmark") as connection:
    say("bound there", *ask(connection, "SELECT ?, ?, ?, ?", (42, "it's", None, True))[0])
