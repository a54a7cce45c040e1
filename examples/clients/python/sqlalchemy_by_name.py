"""Connects by name, with nothing but SNOWFLAKE_HOME set to the directory of connections.toml."""

from sqlalchemy import create_engine, text

engine = create_engine("snowflake://?connection_name=default")
with engine.connect() as connection:
    print(connection.scalar(text("SELECT CURRENT_VERSION()")))
