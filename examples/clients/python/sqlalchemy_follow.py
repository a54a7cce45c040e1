"""Asks Snowflake for its version again and again, over a SQLAlchemy engine that moves to each new key.

The connector reads the key's file for each new connection. Two listeners also replace the pool's connections of an older
key, each at its next use. While Snowflake refuses a new key, because it is not assigned yet, the pool keeps them.
"""

import os
import signal
import threading
import time
from pathlib import Path

from sqlalchemy import NullPool, create_engine, event, text
from sqlalchemy.exc import DBAPIError, DisconnectionError

KEY_FILE = Path(os.environ.get("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem"))
INTERVAL = float(os.environ.get("INTERVAL", "5"))  # seconds between queries
RETRY = 10.0  # seconds until a refused key is tried again
SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
VARIABLES = {name: os.environ.get("SNOWFLAKE_" + name.upper()) for name in SETTINGS}
OPTIONS = {name: value for name, value in VARIABLES.items() if value}
OPTIONS["private_key_file"] = str(KEY_FILE)


class Key:
    """The newest key that Snowflake accepts."""

    def __init__(self):
        self.accepted = None
        self.retry_at = 0.0
        self.lock = threading.Lock()

    def get(self):
        with self.lock:
            if time.monotonic() >= self.retry_at:
                try:
                    self.follow()
                except (OSError, DBAPIError) as error:
                    if self.accepted is None:
                        raise
                    self.retry_at = time.monotonic() + RETRY
                    print("staying on the old key:", error, flush=True)
            return self.accepted

    def follow(self):
        key = KEY_FILE.read_bytes()
        if key != self.accepted:
            create_engine("snowflake://", connect_args=OPTIONS, poolclass=NullPool).connect().close()
            self.accepted = key
            print("logged in with a new key", flush=True)


key = Key()
engine = create_engine("snowflake://", connect_args=OPTIONS)


@event.listens_for(engine, "do_connect")
def note_key(dialect, record, args, options):
    record.info["key"] = key.get()


@event.listens_for(engine, "checkout")
def replace_older_key(connection, record, proxy):
    if record.info["key"] != key.get():
        raise DisconnectionError("the key has changed")  # SQLAlchemy opens another connection


stop = threading.Event()
signal.signal(signal.SIGTERM, lambda *_: stop.set())
while not stop.is_set():
    try:
        with engine.connect() as connection:
            print("Snowflake", connection.scalar(text("SELECT current_version()")), flush=True)
    except (OSError, DBAPIError) as error:
        print("no answer:", error, flush=True)
        engine.dispose()  # the sessions may be gone: log in again
    stop.wait(INTERVAL)
engine.dispose()
