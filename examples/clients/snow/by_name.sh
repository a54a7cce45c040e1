#!/bin/sh
# Connects by name, with nothing but SNOWFLAKE_HOME set to the folder of connections.toml.
snow sql --query 'SELECT CURRENT_VERSION()'
