"""Connects by the key's path. The connector reads the file for each new connection."""

import os

import snowflake.connector

SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
VARIABLES = {name: os.environ.get("SNOWFLAKE_" + name.upper()) for name in SETTINGS}
OPTIONS = {name: value for name, value in VARIABLES.items() if value}
OPTIONS["private_key_file"] = os.environ.get("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem")

with snowflake.connector.connect(**OPTIONS) as connection:
    print(connection.cursor().execute("SELECT CURRENT_VERSION()").fetchone()[0])
