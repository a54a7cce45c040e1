"""Opens as many connections at the same time as each line of its input says, by ADBC; with CLONE set, from one source."""

import os
import sys

import adbc_driver_snowflake.dbapi

QUERY = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"
OPTIONS = {
    "adbc.snowflake.sql.auth_type": "auth_jwt",
    "adbc.snowflake.sql.client_option.jwt_private_key": os.environ["SNOWFLAKE_PRIVATE_KEY_PATH"],
    "username": os.environ["SNOWFLAKE_USER"],
    "adbc.snowflake.sql.db": os.environ["SNOWFLAKE_DATABASE"],
    **{"adbc.snowflake.sql." + name: os.environ["SNOWFLAKE_" + name.upper()] for name in ("account", "role", "warehouse", "schema")},
    **{"adbc.snowflake.sql.uri." + name: os.environ["SNOWFLAKE_" + name.upper()] for name in ("host", "port", "protocol")},
}



def connect():
    return adbc_driver_snowflake.dbapi.connect(db_kwargs=OPTIONS)


source = connect()
open_another = source.adbc_clone if "CLONE" in os.environ else connect
for line in sys.stdin:
    connections = [open_another() for _ in range(int(line))]
    for connection in connections:
        with connection.cursor() as cursor:
            cursor.execute(QUERY)
            print(*cursor.fetchone(), sep=",", flush=True)
    for connection in connections:
        connection.close()
