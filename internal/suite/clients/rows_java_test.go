//go:build clients

package clients

import (
	"slices"

	"github.com/snowkey/snowkey/shared/keyfile"
)

var javaRows = slices.Concat(
	in(row{client: "JDBC", pin: "snowflake-jdbc", directory: "java"},
		row{by: byName, how: "`jdbc:snowflake:auto`", program: "JDBC.java", command: []string{"java", "-cp", "target/lib/*"}},
		row{by: byName, command: example("ByName.java"), oneShot: true, says: saysVersion},
		row{by: byPath, how: "`private_key_file`", program: "JDBC.java", command: []string{"java", "-cp", "target/lib/*"}},
		row{by: byPath, command: example("ByPath.java"), oneShot: true, says: saysVersion},
		row{by: fromSocket, how: "`privateKey`", command: example("FromSocket.java"), socket: keyfile.DER, oneShot: true, says: saysVersion},
	),
	in(row{client: "HikariCP, over snowflake-jdbc", pin: "HikariCP", directory: "java"},
		row{by: byName, how: "`setJdbcUrl(\"jdbc:snowflake:auto\")`", program: "Hikari.java", command: []string{"java", "-cp", "target/lib/*"}},
		row{by: byPath, how: "`private_key_file`", program: "Hikari.java", command: []string{"java", "-cp", "target/lib/*"}},
		row{by: byPath, command: example("Pool.java"), oneShot: true, says: saysVersion},
	),
	in(row{client: "JDBC", pin: "snowflake-jdbc", directory: "java-3"},
		// By name it speaks HTTPS whatever the protocol of connections.toml.
		row{by: byName, how: "`jdbc:snowflake:auto`", program: "JDBC.java", command: []string{"sh", "-c", trustAndRun}, https: true},
		row{by: byPath, how: "`private_key_file`", program: "JDBC.java", command: []string{"java", "-cp", "target/lib/*"}},
	),
)

func example(program string) []string { return []string{"java", "@options", program} }

// trustAndRun runs the program that follows, and has Java trust the test's authority.
const trustAndRun = `
keytool -importcert -noprompt -file "$HOME/ca.pem" -keystore "$HOME/trusted" -storepass changeit 2>/dev/null
exec java -Djavax.net.ssl.trustStore="$HOME/trusted" -Djavax.net.ssl.trustStorePassword=changeit -cp "target/lib/*" "$0"`
