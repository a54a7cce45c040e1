//go:build clients

package clients

import (
	"slices"

	"github.com/snowkey/snowkey/shared/keyfile"
)

var nodeRows = slices.Concat(
	in(row{client: "Node, snowflake-sdk", pin: "snowflake-sdk", directory: "node"},
		row{by: byName, how: "`createConnection()`", program: "connect.mjs", command: node()},
		row{by: byName, command: node("by_name.mjs"), oneShot: true, says: saysVersion},
		row{by: byPath, how: "`privateKeyPath`", program: "connect.mjs", command: node()},
		row{by: byPath, command: node("by_path.mjs"), oneShot: true, says: saysVersion},
		row{by: fromSocket, how: "`privateKey`", command: node("from_socket.mjs"), socket: keyfile.PEM, oneShot: true, says: saysVersion},
	),
	in(row{client: "Node, snowflake-sdk's pool", pin: "snowflake-sdk", directory: "node"},
		row{by: byName, how: "`createPool(undefined, {})`", program: "connect.mjs", command: node(), environ: []string{"POOL=true"}},
		row{by: byPath, how: "`privateKeyPath`", program: "connect.mjs", command: node(), environ: []string{"POOL=true"}},
	),
	in(row{client: "Node, snowflake-sdk", pin: "snowflake-sdk", directory: "node-1"},
		row{by: byName, how: "`createConnection()`", program: "connect.mjs", command: node()},
		row{by: byPath, how: "`privateKeyPath`", program: "connect.mjs", command: node()},
	),
)

func node(arguments ...string) []string { return append([]string{"node"}, arguments...) }
