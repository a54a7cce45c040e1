"""Connects by name in every way that the connector and SQLAlchemy have. SNOWFLAKE_HOME says where the names are."""

import snowflake.connector
from sqlalchemy import create_engine, text

QUERY = "SELECT current_version(), current_role(), current_warehouse(), current_database(), current_schema()"

for options in ({}, {"connection_name": "default"}):
    with snowflake.connector.connect(**options) as connection:
        print(*connection.cursor().execute(QUERY).fetchone(), sep=",", flush=True)

engine = create_engine("snowflake://?connection_name=default")
with engine.connect() as connection:
    print(*connection.execute(text(QUERY)).one(), sep=",", flush=True)
engine.dispose()
