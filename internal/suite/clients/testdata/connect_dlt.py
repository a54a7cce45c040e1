"""Opens as many connections at the same time as each line of its input says, by one pipeline of dlt."""

import os
import sys
from contextlib import ExitStack

import dlt

QUERY = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"
VARIABLES = {name: os.environ["SNOWFLAKE_" + name.upper()] for name in ("host", "port", "protocol")}
CREDENTIALS = {
    "host": os.environ["SNOWFLAKE_ACCOUNT"],
    "username": os.environ["SNOWFLAKE_USER"],
    "query": VARIABLES,
    "private_key_path": os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"],
    **{name: os.environ["SNOWFLAKE_" + name.upper()] for name in ("database", "warehouse", "role")},
}

pipeline = dlt.pipeline("people", destination=dlt.destinations.snowflake(credentials=CREDENTIALS), dataset_name="S")
for line in sys.stdin:
    with ExitStack() as stack:
        for client in [stack.enter_context(pipeline.sql_client()) for _ in range(int(line))]:
            print(*(value.strip('"') for value in client.execute_sql(QUERY)[0]), sep=",", flush=True)
