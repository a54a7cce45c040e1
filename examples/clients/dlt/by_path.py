"""Loads two rows into the table people. dlt reads the key's file at the start of each run."""

import os

import dlt


def variable(name):
    return os.environ.get("SNOWFLAKE_" + name)


credentials = {
    "host": variable("ACCOUNT"),
    "username": variable("USER"),
    "database": variable("DATABASE"),
    "warehouse": variable("WAREHOUSE"),
    "role": variable("ROLE"),
    "private_key_path": variable("PRIVATE_KEY_PATH") or "/run/snowflake/rsa_key.pem",
}
if variable("HOST"):  # only for what is not at ACCOUNT.snowflakecomputing.com
    credentials["query"] = {name: variable(name.upper()) for name in ("host", "port", "protocol")}

pipeline = dlt.pipeline("people", destination=dlt.destinations.snowflake(credentials=credentials), dataset_name="people")
rows = [{"id": 1, "name": "ann"}, {"id": 2, "name": "bob"}]
print(pipeline.run(rows, table_name="people", loader_file_format="parquet"))
