"""Opens as many connections at the same time as each line of its input says, by one hook of Airflow."""

import json
import os
import sys

from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook

QUERY = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"
SETTINGS = ("account", "role", "warehouse", "database", "host", "port")
EXTRA = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in SETTINGS}
EXTRA["private_key_file"] = os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"]
os.environ["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"] = json.dumps(
    {
        "conn_type": "snowflake",
        "login": os.environ["SNOWFLAKE_USER"],
        "schema": os.environ["SNOWFLAKE_SCHEMA"],
        "extra": EXTRA,
    }
)

hook = SnowflakeHook()
for line in sys.stdin:
    connections = [hook.get_conn() for _ in range(int(line))]
    for connection in connections:
        print(*connection.cursor().execute(QUERY).fetchone(), sep=",", flush=True)
    for connection in connections:
        connection.close()
