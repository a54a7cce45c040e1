"""Opens as many connections at the same time as each line of its input says, by the connector alone."""

import os
import sys

import snowflake.connector

QUERY = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"
SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
OPTIONS = {}
if "SNOWFLAKE_HOME" not in os.environ:
    OPTIONS = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in SETTINGS}
    OPTIONS["private_key_file"] = os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"]

for line in sys.stdin:
    connections = [snowflake.connector.connect(**OPTIONS) for _ in range(int(line))]
    for connection in connections:
        print(*connection.cursor().execute(QUERY).fetchone(), sep=",", flush=True)
    for connection in connections:
        connection.close()
