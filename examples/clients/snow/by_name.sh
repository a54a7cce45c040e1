#!/bin/sh
# Connects by name, with nothing but SNOWFLAKE_HOME set to the directory of connections.toml.
snow sql --query 'SELECT CURRENT_VERSION()'
