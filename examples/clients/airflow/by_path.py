"""Asks Snowflake by Airflow's hook. A hook reads private_key_file once: make a new one for each use.

In a deployment the connection is in this variable of the scheduler and the workers, or in Airflow's database.
"""

import json
import os

from airflow.providers.snowflake.hooks.snowflake import SnowflakeHook


def variable(name, default=""):
    return os.environ.get("SNOWFLAKE_" + name, default)


extra = {name: variable(name.upper()) for name in ("account", "role", "warehouse", "database", "host", "port")}
extra["private_key_file"] = variable("PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem")
os.environ["AIRFLOW_CONN_SNOWFLAKE_DEFAULT"] = json.dumps(
    {"conn_type": "snowflake", "login": variable("USER"), "schema": variable("SCHEMA"), "extra": extra}
)

print(SnowflakeHook().get_first("SELECT CURRENT_VERSION()")[0])
