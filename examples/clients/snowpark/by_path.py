"""Connects by the key's path. Snowpark reads the file for each new session."""

import os

from snowflake.snowpark import Session

SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
VARIABLES = {name: os.environ.get("SNOWFLAKE_" + name.upper()) for name in SETTINGS}
OPTIONS = {name: value for name, value in VARIABLES.items() if value}
OPTIONS["private_key_file"] = os.environ.get("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem")

with Session.builder.configs(OPTIONS).create() as session:
    print(session.sql("SELECT CURRENT_VERSION()").collect()[0][0])
