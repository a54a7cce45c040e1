"""Opens as many sessions at the same time as each line of its input says, by Snowpark."""

import os
import sys

from snowflake.snowpark import Session

QUERY = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"
SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
OPTIONS = {}
if "SNOWFLAKE_HOME" not in os.environ:
    OPTIONS = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in SETTINGS}
    OPTIONS["private_key_file"] = os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"]

for line in sys.stdin:
    sessions = [Session.builder.configs(OPTIONS).create() for _ in range(int(line))]
    for session in sessions:
        print(*session.sql(QUERY).collect()[0], sep=",", flush=True)
    for session in sessions:
        session.close()
