"""Asks Snowflake for its version again and again, over a connection that moves to each new key.

Before each use it compares the file with the key of its connection: with a new key it logs in first, and only then
closes the old connection. While Snowflake refuses a new key, because it is not assigned yet, the old connection serves.
"""

import base64
import hashlib
import os
import signal
import threading
import time
from pathlib import Path

import snowflake.connector
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat, load_pem_private_key

KEY_FILE = Path(os.environ.get("SNOWFLAKE_PRIVATE_KEY_PATH", "/run/snowflake/rsa_key.pem"))
INTERVAL = float(os.environ.get("INTERVAL", "5"))  # seconds between queries
RETRY = 10.0  # seconds until a refused key is tried again

SETTINGS = ("account", "user", "host", "port", "protocol", "role", "warehouse", "database", "schema")
VARIABLES = {name: os.environ.get("SNOWFLAKE_" + name.upper()) for name in SETTINGS}
OPTIONS = {name: value for name, value in VARIABLES.items() if value}


class Follower:
    """A connection on the newest key that Snowflake accepts. Get it anew for each use."""

    def __init__(self):
        self.key = self.connection = None
        self.retry_at = 0.0

    def get(self):
        if time.monotonic() >= self.retry_at:
            try:
                self.follow()
            except (OSError, ValueError, snowflake.connector.Error) as error:
                if self.connection is None:
                    raise
                self.retry_at = time.monotonic() + RETRY
                print("staying on the old key:", error, flush=True)
        return self.connection

    def follow(self):
        key = KEY_FILE.read_bytes()
        if key == self.key:
            return
        connection = snowflake.connector.connect(**OPTIONS, private_key_file=str(KEY_FILE))
        old, self.connection, self.key = self.connection, connection, key
        print("logged in with", fingerprint(key), flush=True)
        if old:
            old.close()


def fingerprint(key):
    """What DESC USER shows of the key's public half."""
    public = load_pem_private_key(key, None).public_key()
    spki = public.public_bytes(Encoding.DER, PublicFormat.SubjectPublicKeyInfo)
    return "SHA256:" + base64.b64encode(hashlib.sha256(spki).digest()).decode()


def main():
    stop = threading.Event()
    signal.signal(signal.SIGTERM, lambda *_: stop.set())
    follower = Follower()
    while not stop.is_set():
        try:
            row = follower.get().cursor().execute("SELECT current_version()").fetchone()
            print("Snowflake", row[0], "on", fingerprint(follower.key), flush=True)
        except (OSError, ValueError, snowflake.connector.Error) as error:
            print("no answer:", error, flush=True)
            follower.key = None  # the session may be gone: log in again
        stop.wait(INTERVAL)
    if follower.connection:
        follower.connection.close()


main()
