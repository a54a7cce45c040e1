"""Connects with the key that the sidecar serves at a socket. Each new connection reads it again."""

import os
import socket

import snowflake.connector

SOCKET = os.environ.get("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.der.sock")
SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
VARIABLES = {name: os.environ.get("SNOWFLAKE_" + name.upper()) for name in SETTINGS}
OPTIONS = {name: value for name, value in VARIABLES.items() if value}


def key():
    """The newest key, as DER. It is for one connection: do not keep it."""
    with socket.socket(socket.AF_UNIX) as client:
        client.settimeout(5)
        client.connect(SOCKET)
        with client.makefile("rb") as answer:
            return answer.read() or exit(f"{SOCKET} gives no key: the sidecar's log says why")


with snowflake.connector.connect(**OPTIONS, private_key=key()) as connection:
    print(connection.cursor().execute("SELECT CURRENT_VERSION()").fetchone()[0])
