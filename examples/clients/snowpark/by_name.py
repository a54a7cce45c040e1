"""Connects by name, with nothing but SNOWFLAKE_HOME set to the directory of connections.toml."""

from snowflake.snowpark import Session

with Session.builder.create() as session:
    print(session.sql("SELECT CURRENT_VERSION()").collect()[0][0])
