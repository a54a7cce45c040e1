"""Connects by the key's path. The driver reads the file in each connect(), but in no adbc_clone(): build a pool on connect()."""

import os

import adbc_driver_snowflake.dbapi

OPTIONS = {  # and the variables that they come from
    "adbc.snowflake.sql.account": "ACCOUNT",
    "username": "USER",
    "adbc.snowflake.sql.role": "ROLE",
    "adbc.snowflake.sql.warehouse": "WAREHOUSE",
    "adbc.snowflake.sql.db": "DATABASE",
    "adbc.snowflake.sql.schema": "SCHEMA",
    "adbc.snowflake.sql.uri.host": "HOST",
    "adbc.snowflake.sql.uri.port": "PORT",
    "adbc.snowflake.sql.uri.protocol": "PROTOCOL",
    "adbc.snowflake.sql.client_option.jwt_private_key": "PRIVATE_KEY_PATH",
}
VALUES = {option: os.environ.get("SNOWFLAKE_" + name) for option, name in OPTIONS.items()}
VALUES = {option: value for option, value in VALUES.items() if value}

with adbc_driver_snowflake.dbapi.connect(db_kwargs={"adbc.snowflake.sql.auth_type": "auth_jwt", **VALUES}) as connection:
    with connection.cursor() as cursor:
        cursor.execute("SELECT CURRENT_VERSION()")
        print(cursor.fetchone()[0])
