"""Connects by name, with nothing but SNOWFLAKE_HOME set to the directory of connections.toml."""

import snowflake.connector

with snowflake.connector.connect() as connection:
    print(connection.cursor().execute("SELECT CURRENT_VERSION()").fetchone()[0])
