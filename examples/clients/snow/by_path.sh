#!/bin/sh
# Connects by the key's path, SNOWFLAKE_PRIVATE_KEY_PATH. snow reads the other SNOWFLAKE_ variables, too.
SNOWFLAKE_AUTHENTICATOR=SNOWFLAKE_JWT snow sql --temporary-connection --query 'SELECT CURRENT_VERSION()'
