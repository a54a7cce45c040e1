"""Connects by the key's path. The pool goes on in a rotation: it reads the file for each new connection."""

import os

from sqlalchemy import create_engine, text

SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
VARIABLES = {name: os.environ.get("SNOWFLAKE_" + name.upper()) for name in SETTINGS}
OPTIONS = {name: value for name, value in VARIABLES.items() if value}
OPTIONS["private_key_file"] = os.environ.get("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem")

engine = create_engine("snowflake://", connect_args=OPTIONS)
with engine.connect() as connection:
    print(connection.scalar(text("SELECT CURRENT_VERSION()")))
