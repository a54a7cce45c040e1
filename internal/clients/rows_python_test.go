//go:build clients

package clients

var (
	python = []string{"venv/bin/python"}
	snow   = []string{"venv/bin/python", "-m", "snowflake.cli._app", "sql", "--format=CSV", "--query=" + aboutSession}
)

var pythonRows = []row{
	{client: "Python connector", pin: "snowflake-connector-python", by: byName, how: "`connect()`", folder: "python", program: "connect.py", command: python},
	{client: "Python connector", pin: "snowflake-connector-python", by: byPath, how: "`private_key_file`", folder: "python", program: "connect.py", command: python},
	{client: "snow CLI", pin: "snowflake-cli", by: byName, how: "`snow sql`", folder: "snow", command: snow, oneShot: true},
}
