"""Takes as many connections at the same time as each line of its input says, from the pool of an engine."""

import os
import sys

from sqlalchemy import create_engine, text

QUERY = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"
SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")

if "SNOWFLAKE_HOME" in os.environ:
    engine = create_engine("snowflake://?connection_name=default")
else:
    options = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in SETTINGS}
    options["private_key_file"] = os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"]
    engine = create_engine("snowflake://", connect_args=options)

for line in sys.stdin:
    connections = [engine.connect() for _ in range(int(line))]
    for connection in connections:
        print(*connection.execute(text(QUERY)).one(), sep=",", flush=True)
    for connection in connections:
        connection.close()
engine.dispose()
