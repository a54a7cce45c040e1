//go:build clients

package clients

import (
	"slices"

	"github.com/snowkey/snowkey/shared/keyfile"
)

// in gives the rows what they have in common.
func in(common row, rows ...row) []row {
	for i := range rows {
		rows[i].client, rows[i].pin, rows[i].directory, rows[i].needs, rows[i].all = common.client, common.pin, common.directory, common.needs, common.all
	}
	return rows
}

func python(arguments ...string) []string { return append([]string{"venv/bin/python"}, arguments...) }

func shell(program string) []string { return []string{"sh", program} }

// saysVersion is what the examples print.
const saysVersion = version + "\n"

var pythonRows = slices.Concat(
	in(row{client: "Python connector", pin: "snowflake-connector-python", directory: "python"},
		row{by: byName, how: "`connect()`", program: "connect.py", command: python()},
		row{by: byName, command: python("by_name.py"), oneShot: true, says: saysVersion},
		row{by: byPath, how: "`private_key_file`", program: "connect.py", command: python()},
		row{by: byPath, command: python("by_path.py"), oneShot: true, says: saysVersion},
		row{by: fromSocket, how: "`private_key`", command: python("from_socket.py"), socket: keyfile.DER, oneShot: true, says: saysVersion},
	),
	in(row{client: "Python connector", pin: "snowflake-connector-python", directory: "python-3"},
		row{by: byName, how: "`connect()`", program: "connect.py", command: python()},
		row{by: byPath, how: "`private_key_file`", program: "connect.py", command: python()},
	),
	in(row{client: "Snowpark for Python", pin: "snowflake-snowpark-python", directory: "snowpark"},
		row{by: byName, how: "`Session.builder.create()`", program: "connect_snowpark.py", command: python()},
		row{by: byName, command: python("by_name.py"), oneShot: true, says: saysVersion},
		row{by: byPath, how: "`private_key_file`", program: "connect_snowpark.py", command: python()},
		row{by: byPath, command: python("by_path.py"), oneShot: true, says: saysVersion},
	),
	in(row{client: "SQLAlchemy, snowflake-sqlalchemy", pin: "snowflake-sqlalchemy", directory: "python"},
		row{by: byName, how: "`snowflake://?connection_name=default`", program: "connect_sqlalchemy.py", command: python()},
		row{by: byName, command: python("sqlalchemy_by_name.py"), oneShot: true, says: saysVersion},
		row{by: byPath, how: "`connect_args={\"private_key_file\": PATH}`", program: "connect_sqlalchemy.py", command: python()},
		row{by: byPath, command: python("sqlalchemy_by_path.py"), oneShot: true, says: saysVersion},
	),
	in(row{client: "snow CLI", pin: "snowflake-cli", directory: "snow"},
		row{by: byName, how: "`snow sql`", command: shell("by_name.sh"), oneShot: true, says: version},
		row{by: byPath, how: "`snow sql --temporary-connection`", command: shell("by_path.sh"), oneShot: true, says: version},
	),
	in(row{client: "dbt-snowflake", pin: "dbt-snowflake", directory: "dbt"},
		row{by: byPath, how: "`private_key_path`", command: dbt("debug"), oneShot: true, says: "All checks passed!"},
		row{by: byPath, command: dbt("build"), oneShot: true, says: "PASS=6 WARN=0 ERROR=0", tables: true},
	),
	in(row{client: "ADBC, adbc-driver-snowflake", pin: "adbc-driver-snowflake", directory: "adbc"},
		row{by: byPath, how: "`jwt_private_key`", program: "connect_adbc.py", command: python()},
		row{by: byPath, how: "`adbc_clone()`", program: "connect_adbc.py", command: python(), environ: []string{"CLONE=1"}, keepsKey: true},
		row{by: byPath, command: python("by_path.py"), oneShot: true, says: saysVersion},
	),
	in(row{client: "dlt", pin: "dlt", directory: "dlt"},
		row{by: byPath, how: "`private_key_path`", program: "connect_dlt.py", command: dlt},
		row{by: byPath, command: append(dlt, "by_path.py"), oneShot: true, says: "LOADED and contains no failed jobs", tables: true,
			environ: []string{"RESTORE_FROM_DESTINATION=false", "RUNTIME__DLTHUB_TELEMETRY=false"}},
	),
	in(row{client: "Airflow, apache-airflow-providers-snowflake", pin: "apache-airflow-providers-snowflake", directory: "airflow", all: true},
		row{by: byPath, how: "`private_key_file`", command: python("by_path.py"), oneShot: true, says: saysVersion, https: true},
		row{by: byPath, how: "one SnowflakeHook", program: "connect_airflow.py", command: python(), https: true, keepsKey: true},
	),
)

// dlt runs a program, and writes nothing outside of its user's home.
var dlt = []string{"sh", "-c", `DLT_DATA_DIR="$HOME" exec python "$0"`}

// dbt runs a command in the example's directory, and writes nothing there.
func dbt(command string) []string {
	return []string{"sh", "-c", `DBT_TARGET_PATH="$HOME/target" dbt ` + command + ` --profiles-dir=. --no-use-colors --log-path="$HOME"`}
}
